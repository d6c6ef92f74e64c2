"""Records against published numbers. What comes out is described in `benchmark.comparison`."""

from __future__ import annotations

from benchmark.comparison import Comparison

__all__ = ["Comparison"]
