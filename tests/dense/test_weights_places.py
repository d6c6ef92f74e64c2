"""Where weights that are named by a file alone are looked for."""

from __future__ import annotations

from pathlib import Path

import pytest

from benchmark.dense.weights import resolve
from benchmark.errors import MissingInput


def test_a_file_is_found_where_it_is_named_or_among_downloaded_weights(workplace: Path) -> None:
    folder = workplace / "runs" / "weights"
    with pytest.raises(MissingInput, match=r"no weights at teacher\.pth") as caught:
        resolve("teacher.pth", folder)
    assert str(folder) in caught.value.fix
    folder.mkdir(parents=True)
    (folder / "teacher.pth").touch()
    assert resolve("teacher.pth", folder) == folder / "teacher.pth"
    Path("teacher.pth").touch()
    assert resolve("teacher.pth", folder) == Path("teacher.pth"), "what is named comes first"
