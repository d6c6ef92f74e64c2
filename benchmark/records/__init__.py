"""What ran: records, and all of them as one body of evidence.

`frame()` gives every record as one row of a pandas table.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pandas import DataFrame


def frame(*folders: str | Path) -> DataFrame:
    """Return every readable record below some folders as one row of a pandas table.

    `benchmark.records.dataframe.COLUMNS` says what the columns mean. Without folders, those of this work folder are
    read: results/ and runs/records/.
    """
    # pandas takes a quarter of a second to import, and `status` reads records without it.
    from benchmark.records import dataframe

    return dataframe.frame(*map(Path, folders))
