"""A reproducibility benchmark for DiffKD: run every row of the paper, then say which numbers hold."""

__version__ = "0.1.0"
