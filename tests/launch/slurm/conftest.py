"""One Slurm for all tests of this folder, and a place to submit from."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from campaign import Laboratory
from cluster import Cluster, Impossible


@pytest.fixture(scope="session")
def cluster() -> Iterator[Cluster]:
    """Start a real Slurm; skip the tests if that is impossible."""
    with tempfile.TemporaryDirectory(prefix="slurm-", ignore_cleanup_errors=True) as folder:
        made = Cluster(Path(folder), cpus=6)
        try:
            made.up()
        except Impossible as reason:
            made.down()
            pytest.skip(f"no Slurm: {reason}")
        yield made
        made.down()


@pytest.fixture
def laboratory(workplace: Path, cluster: Cluster) -> Laboratory:
    """Return an empty folder to submit from, with no job of another test in the queue."""
    cluster.empty()
    return Laboratory(workplace, cluster)
