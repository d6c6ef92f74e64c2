"""Options that several commands share, and the kinds of values that options take."""

from __future__ import annotations

import argparse
from pathlib import Path

Commands = argparse._SubParsersAction  # the only name that argparse has for it


def suite_names(command: argparse.ArgumentParser) -> None:
    """Add the names or files of suites."""
    command.add_argument(
        "suites", nargs="+", metavar="SUITE", help="names or files, such as table9 or suites/table9.yaml"
    )


def selection(command: argparse.ArgumentParser) -> None:
    """Add what chooses among a suite's rows, repetitions and profiles."""
    command.add_argument(
        "--only",
        action="append",
        default=[],
        metavar="PATTERN",
        help="only these rows, columns, methods, students or teacher-student pairs; * and ? match; may be repeated",
    )
    command.add_argument(
        "--variant",
        action="append",
        default=[],
        dest="variants",
        metavar="NAME",
        help="the rows under another reading of what their source leaves open, such as paper; may be repeated",
    )
    command.add_argument("--seeds", type=positive, metavar="N", help="repetitions (default: as the suite declares)")
    command.add_argument(
        "--profile",
        choices=("paper", "mini", "smoke"),
        help="paper: as published; mini: a reduced study; smoke: a few steps (default: the suite's own)",
    )
    command.add_argument(
        "--all", action="store_true", dest="all_rows", help="also the rows that the paper copied from other papers"
    )


def places(command: argparse.ArgumentParser) -> None:
    """Add the folders of data, records and working states."""
    command.add_argument(
        "--data-dir", type=Path, metavar="DIR", help="folder of data sets (default: $BENCHMARK_DATA, then data/)"
    )
    command.add_argument(
        "--results-dir", type=Path, default=Path("results"), metavar="DIR", help="folder of records (default: results/)"
    )
    command.add_argument(
        "--runs-dir",
        type=Path,
        default=Path("runs"),
        metavar="DIR",
        help="folder of checkpoints and logs (default: runs/)",
    )


def machine(command: argparse.ArgumentParser) -> None:
    """Add what a command asks of this machine: device, threads, workers."""
    command.add_argument("--device", default="auto", help="auto, cpu, cuda, cuda:1 (default: auto)")
    command.add_argument("--threads", type=positive, help="CPU threads (default: all cores)")
    command.add_argument(
        "--workers",
        type=counted,
        metavar="N",
        help="processes that decode image files (default: cores of this run)",
    )


def json_flag(command: argparse.ArgumentParser) -> None:
    """Add `--json`."""
    command.add_argument("--json", action="store_true", help="print JSON, for programs")


def positive(text: str) -> int:
    """Parse a whole number from 1."""
    value = int(text)
    if value < 1:
        raise argparse.ArgumentTypeError(f"{text} is not a positive number")
    return value


def counted(text: str) -> int:
    """Parse a whole number from 0."""
    value = int(text)
    if value < 0:
        raise argparse.ArgumentTypeError(f"{text} is negative; give 0 or more")
    return value


def assignment(text: str) -> tuple[str, str]:
    """Parse KEY=VALUE."""
    key, found, value = text.lstrip("-").partition("=")
    if not found or not key:
        raise argparse.ArgumentTypeError(f"{text!r} is not KEY=VALUE, such as account=vision")
    return key, value


def pack(text: str) -> int | None:
    """Parse a positive number, or `auto`, which becomes None."""
    if text == "auto":
        return None
    if not text.isdigit() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is neither a positive number nor auto")
    return int(text)
