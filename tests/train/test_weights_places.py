"""Where weights that are named by a file alone are looked for."""

from __future__ import annotations

from pathlib import Path

import pytest
from small import store_in

from benchmark.errors import MissingInput
from benchmark.train.weights import weights_file


def test_a_file_is_found_where_it_is_named_or_among_downloaded_weights(workplace: Path) -> None:
    store = store_in(workplace)
    folder = store.runs / "weights"
    with pytest.raises(MissingInput, match=r"no weights at teacher\.pth") as caught:
        weights_file("teacher.pth", store)
    assert str(folder) in caught.value.fix
    folder.mkdir(parents=True)
    (folder / "teacher.pth").touch()
    assert weights_file("teacher.pth", store).path == folder / "teacher.pth"
    Path("teacher.pth").touch()
    assert weights_file("teacher.pth", store).path == Path("teacher.pth"), "what is named comes first"
