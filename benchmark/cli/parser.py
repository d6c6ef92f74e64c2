"""The command line: parse, call, print errors. Nothing heavy is imported before a command is chosen."""

from __future__ import annotations

import argparse
import importlib
import os
import sys
from collections.abc import Sequence
from pathlib import Path

from benchmark.machine.process import settle

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
    """Build the parser of the whole command line."""
    root = argparse.ArgumentParser(
        prog="python -m benchmark",
        description="Runs every row of the DiffKD paper and says, number by number, whether it holds.",
        epilog=EXIT_CODES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    commands = root.add_subparsers(dest="command", metavar="COMMAND", required=True)
    _running(commands)
    _using(commands)
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
    run.add_argument(
        "--compile",
        choices=("auto", "always", "never"),
        default="auto",
        help="compile the step: where a run is long enough to earn it back, always, or never (default: auto)",
    )
    run.add_argument(
        "--pack",
        type=_pack,
        default=1,
        metavar="N|auto",
        help="runs that take turns in one process; auto: as many as are fastest together within memory (default: 1)",
    )
    run.add_argument("--checkpoint-seconds", type=float, default=60.0, metavar="S", help="time between checkpoints")
    run.add_argument(
        "--workers", type=_counted, metavar="N", help="processes that decode image files (default: this run's cores)"
    )
    run.add_argument("--dry-run", action="store_true", help="print the plan and stop")
    run.add_argument("--yes", action="store_true", help="do not ask before more than 8 hours of computing")
    _launching(run)

    plan = commands.add_parser("plan", help="what a run would do, deduplicated, with estimated hours")
    _suites(plan)
    _selection(plan)
    _places(plan)
    plan.add_argument("--device", default="auto", help=argparse.SUPPRESS)
    plan.add_argument(
        "--gpus", type=_positive, action="append", metavar="N", help="how long on N GPUs, here or not; may be repeated"
    )
    _json(plan)

    status = commands.add_parser("status", help="what is done, running, queued, failed and missing")
    status.add_argument("suites", nargs="*", metavar="SUITE", help="names or files (default: all)")
    _selection(status)
    _places(status)
    _json(status)

    cancel = commands.add_parser("cancel", help="end submitted jobs of this project, and no others")
    cancel.add_argument("submissions", nargs="*", metavar="SUBMISSION", help="as `run` named them (default: all)")
    _places(cancel)


def _launching(run: argparse.ArgumentParser) -> None:
    jobs = run.add_argument_group("jobs", "for --launcher; docs/cluster.md tells it from the beginning")
    jobs.add_argument(
        "--launcher",
        choices=("slurm", "local", "debug"),
        help="jobs on Slurm, in a process for each device of this machine, or in this process (default: no jobs)",
    )
    jobs.add_argument("--partition", metavar="NAME", help="where the jobs go (default: the cluster's own default)")
    jobs.add_argument("--gpus", type=_counted, metavar="N", help="GPUs of a run (default: as its recipe says; 0: none)")
    jobs.add_argument("--ranks", type=_positive, metavar="N", help="processes of a run (default: one a GPU)")
    jobs.add_argument("--nodes", type=_positive, default=1, metavar="N", help="nodes of a run (1)")
    jobs.add_argument("--cpus", type=_positive, metavar="N", help="cores of a process (--threads, else 4 with a GPU)")
    jobs.add_argument("--minutes", type=_positive, metavar="M", help="time of a job (default: from the estimate)")
    jobs.add_argument(
        "--batch-minutes", type=float, default=60.0, metavar="M", help="short runs share a job up to this estimate (60)"
    )
    jobs.add_argument("--max-parallel", type=_positive, metavar="N", help="jobs at a time (default: no limit)")
    jobs.add_argument(
        "--requeues", type=_counted, default=100, metavar="N", help="how often a stopped job is queued again (100)"
    )
    jobs.add_argument(
        "--slurm",
        type=_assignment,
        action="append",
        default=[],
        metavar="KEY=VALUE",
        help="any option of sbatch, such as account=vision or qos=preemptable; may be repeated",
    )
    jobs.add_argument("--wait", action="store_true", help="wait for the jobs, then print the tables")


def _using(commands: Commands[argparse.ArgumentParser]) -> None:
    evaluate = commands.add_parser("eval", help="a checkpoint on a data set, against its published accuracy")
    evaluate.add_argument("model", metavar="MODEL", help="as `list models` names it, torchvision:NAME or timm:NAME")
    evaluate.add_argument("--data", required=True, metavar="SET", help="cifar100, imagenet, imagenet100, or a folder")
    evaluate.add_argument(
        "--weights", metavar="W", help="a file, a URL, torchvision:NAME or timm:NAME (default: a timm name's tag)"
    )
    evaluate.add_argument("--sha256", metavar="HEX", help="of the file; its first eight digits at least")
    evaluate.add_argument("--published", type=float, metavar="TOP1", help="what the weights' source states")
    _machine(evaluate)
    _places(evaluate)
    _json(evaluate)

    distill = commands.add_parser("distill", help="any teacher and student on your own folder of images")
    distill.add_argument(
        "--teacher", required=True, metavar="T", help="timm:NAME, torchvision:NAME, or of `list models`"
    )
    distill.add_argument("--student", required=True, metavar="S", help="the same")
    distill.add_argument("--data", required=True, type=Path, metavar="FOLDER", help="holds train/CLASS/ and val/CLASS/")
    distill.add_argument(
        "--out", required=True, type=Path, metavar="FILE", help="the student: X.pt, and X.pt2 beside it"
    )
    distill.add_argument("--method", default="diffkd", help="a method, or 'diffkd: {latent: 256}' (default: diffkd)")
    distill.add_argument("--recipe", default="B1", help="of `list recipes`, for ImageNet (default: B1)")
    distill.add_argument("--epochs", type=_positive, metavar="N", help="instead of the recipe's; its schedule scales")
    distill.add_argument("--batch", type=_positive, metavar="N", help="instead of the recipe's")
    distill.add_argument("--lr", type=float, metavar="X", help="instead of the recipe's; a smaller batch wants less")
    distill.add_argument("--image-size", type=_positive, metavar="N", help="side of the images shown (default: 224)")
    distill.add_argument(
        "--precision", choices=("fp32", "tf32", "bf16", "fp16"), default="fp32", help="(default: fp32)"
    )
    distill.add_argument(
        "--teacher-weights", metavar="W", help="a file, a URL, torchvision:NAME or timm:NAME (default: trained first)"
    )
    distill.add_argument("--student-weights", metavar="FILE", help="what the student starts from (default: fresh)")
    for who in ("teacher", "student"):
        distill.add_argument(f"--{who}-taps", metavar="ROLE=MODULE,...", help="instead of those found by shape")
    distill.add_argument("--checkpoint-seconds", type=float, default=60.0, metavar="S", help="time between checkpoints")
    _machine(distill)

    export = commands.add_parser("export", help="a finished student, or its predictions for the Cityscapes server")
    export.add_argument("run", metavar="RUN", help="its identity's beginning (#1: repetition 1), or its record's path")
    export.add_argument(
        "--kind",
        choices=("student", "cityscapes"),
        default="student",
        help="a state dict and a torch.export program, or the zip that the Cityscapes server scores (default: student)",
    )
    export.add_argument("--partial", action="store_true", help="with cityscapes: take what test images there are")
    export.add_argument("--device", default="auto", help="that predicts: auto, cpu, cuda, cuda:1 (default: auto)")
    export.add_argument("--out", type=Path, metavar="FILE", help="(default: named after student and identity)")
    _places(export)


def _machine(command: argparse.ArgumentParser) -> None:
    command.add_argument("--device", default="auto", help="auto, cpu, cuda, cuda:1 (default: auto)")
    command.add_argument("--threads", type=_positive, help="CPU threads (default: all cores)")
    command.add_argument("--workers", type=_counted, metavar="N", help="processes that decode image files")


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
        help="records; may be repeated, one for each machine (default: results/, or those that come along)",
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
    verify.set_defaults(results_dir=None)  # the file that comes with the program, wherever one stands
    _json(verify)

    bench = commands.add_parser(
        "bench", help="what training costs here: time and memory of every method, --speed for rates and hours"
    )
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
    bench.add_argument("--speed", action="store_true", help="images/s, alone and packed, shares of time, suites' hours")
    bench.add_argument(
        "--suite", action="append", default=[], metavar="SUITE", help="with --speed: its pairs and methods; repeatable"
    )
    bench.add_argument("--pack", type=_positive, default=2, metavar="N", help="with --speed: runs packed (2)")
    bench.add_argument(
        "--compile", choices=("auto", "always", "never"), default="auto", help="with --speed: as of run (auto)"
    )
    bench.add_argument(
        "--runs-dir", type=Path, default=Path("runs"), metavar="DIR", help="where plan looks for speeds (runs/)"
    )
    bench.add_argument("--output", type=Path, default=Path("reports"), metavar="DIR", help="bench.json, .md, .svg")
    _json(bench)


def _looking(commands: Commands[argparse.ArgumentParser]) -> None:
    listing = commands.add_parser("list", help="suites, cells, methods, models, recipes, profiles, data, pending")
    listing.add_argument(
        "what", choices=("suites", "cells", "methods", "models", "recipes", "profiles", "data", "pending")
    )
    listing.add_argument("suites", nargs="*", metavar="SUITE", help="only these suites")
    listing.add_argument("--data-dir", type=Path, metavar="DIR", help="with data: where to look")
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
        "--data-dir", type=Path, metavar="DIR", help="holds the images (default: $BENCHMARK_DATA, data/)"
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


def _counted(text: str) -> int:
    value = int(text)
    if value < 0:
        raise argparse.ArgumentTypeError(f"{text} is not a number of things")
    return value


def _assignment(text: str) -> tuple[str, str]:
    key, found, value = text.lstrip("-").partition("=")
    if not found or not key:
        raise argparse.ArgumentTypeError(f"{text!r} is not KEY=VALUE, such as account=vision")
    return key, value


def _pack(text: str) -> int | None:
    """Parse a positive number, or `auto`, which becomes None."""
    if text == "auto":
        return None
    if not text.isdigit() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is neither a positive number nor auto")
    return int(text)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command, and return the exit code."""
    given = parser().parse_args(arguments)
    settle()
    from benchmark.errors import BenchmarkError

    try:
        command = importlib.import_module(f"benchmark.cli.{given.command}")
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
