"""The command line: parse, call, print errors. Nothing heavy is imported before a command is chosen."""

from __future__ import annotations

import argparse
import importlib
import os
import sys
from collections.abc import Sequence
from pathlib import Path

EXIT_CODES = """exit codes:
  0    everything asked for is done
  1    a run failed, diverged or could not be judged
  2    wrong usage: a flag, a name, a manifest, an option
  3    data or weights are missing or not the pinned ones
  4    a file or folder cannot be read or written
  5    a gate was hit (report --fail-on, verify)
  130  stopped on request; the same command goes on from the checkpoints"""

Commands = argparse._SubParsersAction  # the only name that argparse has for it


def parser() -> argparse.ArgumentParser:
    """The whole command line."""
    root = argparse.ArgumentParser(
        prog="python -m benchmark",
        description="Runs every row of the DiffKD paper and says, number by number, whether it holds.",
        epilog=EXIT_CODES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    commands = root.add_subparsers(dest="command", metavar="COMMAND", required=True)
    _running(commands)
    _judging(commands)
    _looking(commands)
    return root


def _running(commands: Commands[argparse.ArgumentParser]) -> None:
    run = commands.add_parser("run", help="run suites: plan, train what is missing, print the tables")
    _suites(run)
    _selection(run)
    _places(run)
    run.add_argument("--device", default="auto", help="auto, cpu, cuda, cuda:1 (default: auto)")
    run.add_argument(
        "--threads", type=_positive, help="CPU threads; results on a CPU depend on it (default: all cores)"
    )
    run.add_argument("--checkpoint-seconds", type=float, default=60.0, metavar="S", help="time between checkpoints")
    run.add_argument("--dry-run", action="store_true", help="print the plan and stop")
    run.add_argument("--yes", action="store_true", help="do not ask before more than 8 hours of computing")

    plan = commands.add_parser("plan", help="what a run would do, deduplicated, with estimated hours")
    _suites(plan)
    _selection(plan)
    _places(plan)
    plan.add_argument("--device", default="auto", help=argparse.SUPPRESS)
    _json(plan)

    status = commands.add_parser("status", help="what is done, running, failed and missing")
    status.add_argument("suites", nargs="*", metavar="SUITE", help="names or files (default: all)")
    _selection(status)
    _places(status)
    _json(status)


def _judging(commands: Commands[argparse.ArgumentParser]) -> None:
    report = commands.add_parser("report", help="records against published numbers: page, tables, verdicts")
    report.add_argument(
        "--compare",
        choices=("paper", "reruns", "all"),
        default="paper",
        help="with the published numbers, with independent re-runs of others, or with both (default: paper)",
    )
    report.add_argument(
        "--suite", action="append", default=[], metavar="SUITE", help="only this one, by name or file; may be repeated"
    )
    report.add_argument(
        "--results-dir",
        action="append",
        type=Path,
        metavar="DIR",
        help="records; may be repeated, one for each machine (default: results/)",
    )
    report.add_argument("--runs-dir", type=Path, default=Path("runs"), metavar="DIR", help="smoke records (runs/)")
    report.add_argument(
        "--figure",
        choices=("2", "7"),
        help="instead draw where student, denoised student and teacher look, from finished detection runs",
    )
    report.add_argument("--images", type=_positive, metavar="N", help="with --figure: of the test set (4; 12 for 7)")
    report.add_argument("--profile", choices=("paper", "mini", "smoke"), help="with --figure: whose runs (the suite's)")
    report.add_argument("--data-dir", type=Path, metavar="DIR", help="with --figure: where COCO lies")
    report.add_argument("--device", default="auto", help="with --figure: auto, cpu, cuda (default: auto)")
    report.add_argument("--out", type=Path, metavar="DIR", help="where to write (default: reports/paper/ and so on)")
    report.add_argument(
        "--fail-on",
        default="",
        metavar="VERDICTS",
        help="exit code 5 if any cell has one of these: below,protocol-mismatch",
    )
    _json(report)

    verify = commands.add_parser("verify", help="what can be proved without training: costs, shapes, manifests, claims")
    verify.add_argument("what", nargs="?", choices=("claims",), help="only the paper's prose against its own tables")
    verify.add_argument("--full", action="store_true", help="the second counter on the largest networks too: minutes")
    verify.add_argument("--fresh", action="store_true", help="do not take findings from the cache")
    verify.add_argument("--check", action="store_true", help="fail where results/static.json is out of date")
    _places(verify)
    _json(verify)

    bench = commands.add_parser("bench", help="step time and memory of every method beside the plain student's")
    bench.add_argument("methods", nargs="*", metavar="METHOD", help="names (default: all that can serve the pair)")
    bench.add_argument(
        "--predictors", action="store_true", help="instead DiffKD's noise predictors of Table 12, against each other"
    )
    bench.add_argument(
        "--pair", default="resnet56-resnet20", metavar="TEACHER-STUDENT", help="CIFAR networks (resnet56-resnet20)"
    )
    bench.add_argument("--batch", type=_positive, default=64, help="images a step (64, as recipe A1)")
    bench.add_argument("--rounds", type=_positive, default=20, help="timed steps of each method, in turn (20)")
    bench.add_argument("--device", default="auto", help="auto, cpu, cuda, cuda:1 (default: auto)")
    bench.add_argument("--threads", type=_positive, help="CPU threads (default: all cores)")
    bench.add_argument("--output", type=Path, default=Path("reports"), metavar="DIR", help="bench.json, .md, .svg")
    _json(bench)


def _looking(commands: Commands[argparse.ArgumentParser]) -> None:
    listing = commands.add_parser("list", help="suites, cells, methods, models, recipes, profiles, data, pending")
    listing.add_argument(
        "what", choices=("suites", "cells", "methods", "models", "recipes", "profiles", "data", "pending")
    )
    listing.add_argument("suites", nargs="*", metavar="SUITE", help="only these suites")
    _json(listing)

    show = commands.add_parser("show", help="one method, model, recipe, suite, experiment or run in full; the schema")
    show.add_argument("what", choices=("method", "model", "recipe", "suite", "experiment", "run", "schema"))
    show.add_argument("name", nargs="?", default="", help="its name, or the beginning of an identity")
    _places(show)
    _json(show)

    doctor = commands.add_parser("doctor", help="what is installed, found and missing, and the command that mends it")
    _places(doctor)
    _json(doctor)


def _suites(command: argparse.ArgumentParser) -> None:
    command.add_argument(
        "suites", nargs="+", metavar="SUITE", help="names or files, such as table9 or suites/table9.yaml"
    )


def _selection(command: argparse.ArgumentParser) -> None:
    command.add_argument(
        "--only",
        action="append",
        default=[],
        metavar="PATTERN",
        help="rows, columns, methods, students or teacher-student pairs; * and ? match; may be repeated",
    )
    command.add_argument("--seeds", type=_positive, metavar="N", help="repetitions, instead of the declared number")
    command.add_argument("--profile", choices=("paper", "mini", "smoke"), help="instead of the suite's own")
    command.add_argument("--all", action="store_true", dest="all_rows", help="cited rows too")


def _places(command: argparse.ArgumentParser) -> None:
    command.add_argument(
        "--data-dir", type=Path, metavar="DIR", help="holds cifar-100-python/ (default: $BENCHMARK_DATA, data/)"
    )
    command.add_argument("--results-dir", type=Path, default=Path("results"), metavar="DIR", help="records (results/)")
    command.add_argument("--runs-dir", type=Path, default=Path("runs"), metavar="DIR", help="checkpoints, logs (runs/)")


def _json(command: argparse.ArgumentParser) -> None:
    command.add_argument("--json", action="store_true", help="for programs: JSON on standard output")


def _positive(text: str) -> int:
    value = int(text)
    if value < 1:
        raise argparse.ArgumentTypeError(f"{text} is not a positive number")
    return value


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; the exit code."""
    given = parser().parse_args(arguments)
    # Read when torch is loaded. Threads that spin while they wait train a small network ten times slower as soon as
    # another process wants one of the cores; threads that sleep cost it a quarter of its speed on an idle machine
    # (ResNet-8, 2 cores). The arithmetic is the same; OMP_WAIT_POLICY=ACTIVE in the environment wins.
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    from benchmark.errors import BenchmarkError

    try:
        command = importlib.import_module(f"benchmark.commands.{given.command}")
        code: int = command.main(given)
        sys.stdout.flush()
        return code
    except BenchmarkError as error:
        print(f"error: {error}", file=sys.stderr)
        return error.exit_code
    except KeyboardInterrupt:
        print("stopped", file=sys.stderr)
        return 130
    except BrokenPipeError:  # the reader of a pipe, `head` say, has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
