"""Before any module here imports MMEngine: test processes start together, on a new machine too."""

from __future__ import annotations

from benchmark.dense.stack import import_formatter

import_formatter()
