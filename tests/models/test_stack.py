"""Importing OpenMMLab's packages in several processes at once."""

from __future__ import annotations

import fcntl
import os
import subprocess
import sys
from pathlib import Path

import pytest


def test_one_process_at_a_time_imports_the_formatter(tmp_path: Path) -> None:
    code = "from benchmark.models import openmmlab; openmmlab.import_formatter(); print('imported')"
    with (tmp_path / f"benchmark-yapf-{os.getuid()}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        waiting = subprocess.Popen(
            [sys.executable, "-c", code], env=os.environ | {"TMPDIR": str(tmp_path)}, stdout=subprocess.PIPE, text=True
        )
        with pytest.raises(subprocess.TimeoutExpired):
            waiting.communicate(timeout=3)
    assert waiting.communicate(timeout=60) == ("imported\n", None)
    assert waiting.returncode == 0
