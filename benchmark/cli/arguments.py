"""The arguments of each command, and how they are explained in `--help`."""

from __future__ import annotations

import argparse
from pathlib import Path

from benchmark.cli.shared_options import (
    Commands,
    assignment,
    counted,
    json_flag,
    machine,
    pack,
    places,
    positive,
    selection,
    suite_names,
)


def _run(commands: Commands[argparse.ArgumentParser]) -> None:
    run = commands.add_parser("run", help="train the runs of suites that are still missing, then print the tables")
    suite_names(run)
    selection(run)
    places(run)
    run.add_argument("--device", default="auto", help="auto, cpu, cuda, cuda:1 (default: auto)")
    run.add_argument("--threads", type=positive, help="CPU threads; results on a CPU depend on it (default: all cores)")
    run.add_argument(
        "--compile",
        choices=("auto", "always", "never"),
        default="auto",
        help="compile the training step; auto: only in runs long enough to win back the time it takes (default: auto)",
    )
    run.add_argument(
        "--pack",
        type=pack,
        default=1,
        metavar="N|auto",
        help="number of runs that take turns in one process; auto: the fastest number that fits in memory (default: 1)",
    )
    run.add_argument(
        "--checkpoint-seconds", type=float, default=60.0, metavar="S", help="seconds between checkpoints (default: 60)"
    )
    run.add_argument(
        "--drop-side-networks",
        action="store_false",
        dest="keep_side_networks",
        help="keep only the student of a finished run; figures of its features cannot be drawn then",
    )
    run.add_argument(
        "--workers",
        type=counted,
        metavar="N",
        help="processes that decode image files (default: cores of this run)",
    )
    run.add_argument("--dry-run", action="store_true", help="print the plan and stop")
    run.add_argument("--yes", action="store_true", help="do not ask for confirmation above 8 hours of computing")
    _launching(run)


def _plan(commands: Commands[argparse.ArgumentParser]) -> None:
    plan = commands.add_parser("plan", help="show what `run` would train, each run once, with estimated hours")
    suite_names(plan)
    selection(plan)
    places(plan)
    plan.add_argument("--device", default="auto", help=argparse.SUPPRESS)
    plan.add_argument(
        "--gpus",
        type=positive,
        action="append",
        metavar="N",
        help="estimate the time on N GPUs, on this machine or another; may be repeated",
    )
    json_flag(plan)


def _status(commands: Commands[argparse.ArgumentParser]) -> None:
    status = commands.add_parser("status", help="show which runs are done, running, queued, failed or missing")
    status.add_argument("suites", nargs="*", metavar="SUITE", help="names or files (default: all)")
    selection(status)
    places(status)
    json_flag(status)


def _cancel(commands: Commands[argparse.ArgumentParser]) -> None:
    cancel = commands.add_parser("cancel", help="end jobs that this project submitted, and no others")
    cancel.add_argument(
        "submissions", nargs="*", metavar="SUBMISSION", help="name that `run` printed, or more than one (default: all)"
    )
    places(cancel)


def _eval(commands: Commands[argparse.ArgumentParser]) -> None:
    evaluate = commands.add_parser("eval", help="test a checkpoint on a data set and compare with its published top-1")
    evaluate.add_argument("model", metavar="MODEL", help="a name from `list models`, torchvision:NAME or timm:NAME")
    evaluate.add_argument("--data", required=True, metavar="SET", help="cifar100, imagenet, imagenet100, or a folder")
    evaluate.add_argument(
        "--weights",
        metavar="W",
        help="a file, a URL, torchvision:NAME or timm:NAME (default: those that the tag of a timm name states)",
    )
    evaluate.add_argument("--sha256", metavar="HEX", help="expected hash of the file, at least its first eight digits")
    evaluate.add_argument("--published", type=float, metavar="TOP1", help="top-1 that the source of the weights states")
    machine(evaluate)
    places(evaluate)
    json_flag(evaluate)


def _distill(commands: Commands[argparse.ArgumentParser]) -> None:
    distill = commands.add_parser("distill", help="train any student from any teacher on your own folder of images")
    distill.add_argument(
        "--teacher", required=True, metavar="T", help="timm:NAME, torchvision:NAME, or a name from `list models`"
    )
    distill.add_argument(
        "--student", required=True, metavar="S", help="timm:NAME, torchvision:NAME, or a name as above"
    )
    distill.add_argument(
        "--data", required=True, type=Path, metavar="FOLDER", help="folder with train/CLASS/ and val/CLASS/"
    )
    distill.add_argument(
        "--out", required=True, type=Path, metavar="FILE", help="where to write the student: X.pt; X.pt2 is added to it"
    )
    distill.add_argument("--method", default="diffkd", help="a method, or 'diffkd: {latent: 256}' (default: diffkd)")
    distill.add_argument("--recipe", default="B1", help="an ImageNet recipe from `list recipes` (default: B1)")
    distill.add_argument(
        "--epochs", type=positive, metavar="N", help="instead of the recipe's; its schedule is scaled to them"
    )
    distill.add_argument("--batch", type=positive, metavar="N", help="images a step, instead of the recipe's")
    distill.add_argument(
        "--lr", type=float, metavar="X", help="learning rate, instead of the recipe's; use less for a smaller batch"
    )
    distill.add_argument(
        "--image-size", type=positive, metavar="N", help="side of the networks' input in pixels (default: 224)"
    )
    distill.add_argument(
        "--precision",
        choices=("fp32", "tf32", "bf16", "fp16"),
        default="fp32",
        help="arithmetic of the training (default: fp32)",
    )
    distill.add_argument(
        "--teacher-weights",
        metavar="W",
        help="a file, a URL, torchvision:NAME or timm:NAME (default: the teacher is trained first)",
    )
    distill.add_argument(
        "--student-weights", metavar="FILE", help="weights that the student starts from (default: random)"
    )
    for who in ("teacher", "student"):
        distill.add_argument(
            f"--{who}-taps",
            metavar="ROLE=MODULE,...",
            help=f"modules of the {who} that the method sees (default: found by shape)",
        )
    distill.add_argument(
        "--checkpoint-seconds", type=float, default=60.0, metavar="S", help="seconds between checkpoints (default: 60)"
    )
    machine(distill)


def _export(commands: Commands[argparse.ArgumentParser]) -> None:
    export = commands.add_parser("export", help="write a finished run's student, or its Cityscapes predictions")
    export.add_argument(
        "run",
        metavar="RUN",
        help="the beginning of its identity (#1 appended: repetition 1), or the path of its record",
    )
    export.add_argument(
        "--kind",
        choices=("student", "cityscapes"),
        default="student",
        help="student: a state dict and a torch.export program; cityscapes: the zip that the Cityscapes server scores "
        "(default: student)",
    )
    export.add_argument(
        "--partial", action="store_true", help="with --kind cityscapes: predict even if some test images are missing"
    )
    export.add_argument(
        "--device", default="auto", help="with --kind cityscapes: auto, cpu, cuda, cuda:1 (default: auto)"
    )
    export.add_argument(
        "--out", type=Path, metavar="FILE", help="file to write (default: named after student and identity)"
    )
    places(export)


def _rerun(commands: Commands[argparse.ArgumentParser]) -> None:
    rerun = commands.add_parser("rerun", help="make a record's run again from the record alone, and compare the bits")
    rerun.add_argument("records", nargs="+", metavar="RECORD", help="records (r0.json), or folders with --sample")
    rerun.add_argument("--sample", type=positive, metavar="N", help="take so many of the records, at random")
    rerun.add_argument("--seed", type=counted, default=0, help="of the choice of --sample (default: 0)")
    rerun.add_argument("--hours", type=float, metavar="H", help="begin no further rerun that would end after these")
    rerun.add_argument("--to", type=Path, metavar="DIR", help="keep records and weights there, and resume from there")
    rerun.add_argument("--device", help="auto, cpu, cuda, cuda:1 (default: the kind that the record names)")
    rerun.add_argument("--threads", type=positive, help="CPU threads (default: as many as the record names)")
    rerun.add_argument(
        "--data-dir", type=Path, metavar="DIR", help="holds the images (default: $BENCHMARK_DATA, data/)"
    )
    json_flag(rerun)


def _bridge(commands: Commands[argparse.ArgumentParser]) -> None:
    bridge = commands.add_parser("bridge", help="compare the bits of two revisions, and note where they are equal")
    bridge.add_argument(
        "--from",
        dest="older",
        action="append",
        default=[],
        metavar="REV",
        help="older revision; may be repeated (default: the last bridged one; at first those of the records)",
    )
    bridge.add_argument("--to", dest="newer", metavar="REV", help="newer revision (default: this program as it is)")
    bridge.add_argument("--check", action="store_true", help="write nothing, and skip what this history does not have")
    bridge.add_argument(
        "--data-dir",
        type=Path,
        metavar="DIR",
        help="folder of CIFAR-100 (default: $BENCHMARK_DATA, data/, else generated images)",
    )
    json_flag(bridge)


def _collect(commands: Commands[argparse.ArgumentParser]) -> None:
    collect = commands.add_parser("collect", help="take records of others into your results: checked and attributed")
    collect.add_argument("folder", type=Path, metavar="FOLDER", help="their results")
    collect.add_argument("--from", required=True, dest="contributor", metavar="NAME", help="whose they are")
    collect.add_argument("--spot-check", type=positive, metavar="N", help="first make N of their runs again")
    places(collect)


def _report(commands: Commands[argparse.ArgumentParser]) -> None:
    report = commands.add_parser("report", help="compare records with published numbers: page, tables, verdicts")
    report.add_argument(
        "--compare",
        choices=("paper", "reruns", "all"),
        default="paper",
        help="compare with the published numbers, with other people's re-runs, or with both (default: paper)",
    )
    report.add_argument(
        "--suite", action="append", default=[], metavar="SUITE", help="only this suite (name or file); may be repeated"
    )
    report.add_argument(
        "--results-dir",
        action="append",
        type=Path,
        metavar="DIR",
        help="folder of records; may be repeated, once for each machine (default: results/, or, if it has none, the "
        "records that come with the program)",
    )
    report.add_argument(
        "--runs-dir", type=Path, default=Path("runs"), metavar="DIR", help="folder with smoke records (default: runs/)"
    )
    report.add_argument(
        "--figure",
        choices=("2", "4", "5", "6", "7"),
        default="",
        help="draw this figure instead, from finished runs: 4 accuracy by denoising steps, 5 the noise weight gamma, 6 "
        "class scores, 2 and 7 what detectors attend to",
    )
    report.add_argument(
        "--images",
        type=positive,
        metavar="N",
        help="with --figure 2, 6 or 7: number of test images (default: 4; 12 for 7)",
    )
    report.add_argument(
        "--profile",
        choices=("paper", "mini", "smoke"),
        help="with --figure: profile of the runs (default: the suite's)",
    )
    report.add_argument("--data-dir", type=Path, metavar="DIR", help="with --figure 2, 6 or 7: folder of the images")
    report.add_argument("--device", default="auto", help="with --figure: auto, cpu, cuda (default: auto)")
    report.add_argument(
        "--out",
        type=Path,
        metavar="DIR",
        help="folder to write (default: reports/paper, reports/reruns or reports/all; with --figure: reports)",
    )
    report.add_argument(
        "--fail-on",
        default="",
        metavar="VERDICTS",
        help="exit with code 5 if a cell has one of these verdicts, such as below,protocol-mismatch",
    )
    json_flag(report)


def _verify(commands: Commands[argparse.ArgumentParser]) -> None:
    verify = commands.add_parser("verify", help="check what needs no training: costs, shapes, manifests, claims")
    verify.add_argument(
        "what",
        nargs="?",
        choices=("claims", "sources"),
        help="check only the paper's sentences against its own tables, or every setting against its source's files",
    )
    verify.add_argument(
        "--full", action="store_true", help="count the largest networks with the second counter too: takes minutes"
    )
    verify.add_argument("--fresh", action="store_true", help="ignore cached findings")
    verify.add_argument("--check", action="store_true", help="fail if results/static.json is out of date")
    places(verify)
    verify.set_defaults(results_dir=None)  # the file that comes with the program, wherever one stands
    json_flag(verify)


def _bench(commands: Commands[argparse.ArgumentParser]) -> None:
    bench = commands.add_parser(
        "bench", help="measure training here: time and memory of every method; --speed: images/s and hours"
    )
    bench.add_argument(
        "methods", nargs="*", metavar="METHOD", help="names (default: all methods that can serve the pair)"
    )
    bench.add_argument(
        "--predictors", action="store_true", help="measure DiffKD's noise predictors of Table 12 instead of methods"
    )
    bench.add_argument(
        "--pair",
        default="resnet56-resnet20",
        metavar="TEACHER-STUDENT",
        help="CIFAR networks (default: resnet56-resnet20)",
    )
    bench.add_argument("--batch", type=positive, default=64, help="images a step (default: 64, as in recipe A1)")
    bench.add_argument("--rounds", type=positive, default=20, help="timed steps of each method (default: 20)")
    bench.add_argument("--device", default="auto", help="auto, cpu, cuda, cuda:1 (default: auto)")
    bench.add_argument("--threads", type=positive, help="CPU threads (default: all cores)")
    bench.add_argument(
        "--speed",
        action="store_true",
        help="measure images/s, alone and packed, and each part's share of a step; estimate the hours of suites",
    )
    bench.add_argument(
        "--suite",
        action="append",
        default=[],
        metavar="SUITE",
        help="with --speed: measure the pairs and methods of this suite; may be repeated",
    )
    bench.add_argument(
        "--pack", type=positive, default=2, metavar="N", help="with --speed: number of packed runs (default: 2)"
    )
    bench.add_argument(
        "--compile",
        choices=("auto", "always", "never"),
        default="auto",
        help="with --speed: as for `run` (default: auto)",
    )
    bench.add_argument(
        "--runs-dir",
        type=Path,
        default=Path("runs"),
        metavar="DIR",
        help="with --speed: folder where `plan` and `run` find the speeds (default: runs/)",
    )
    bench.add_argument(
        "--output",
        type=Path,
        default=Path("reports"),
        metavar="DIR",
        help="folder for bench.json, bench.md, bench.svg (default: reports/)",
    )
    json_flag(bench)


def _list(commands: Commands[argparse.ArgumentParser]) -> None:
    listing = commands.add_parser(
        "list", help="list suites, cells, methods, models, recipes, profiles, data or pending"
    )
    listing.add_argument(
        "what",
        choices=("suites", "cells", "methods", "models", "recipes", "profiles", "data", "pending"),
        help="cells: the published numbers; data: which data sets are found here; pending: parts that do not exist yet",
    )
    listing.add_argument("suites", nargs="*", metavar="SUITE", help="only these suites (default: all)")
    listing.add_argument("--data-dir", type=Path, metavar="DIR", help="with data: folder to look in")
    json_flag(listing)


def _show(commands: Commands[argparse.ArgumentParser]) -> None:
    show = commands.add_parser("show", help="show one method, model, recipe, suite, experiment or run in full")
    show.add_argument(
        "what",
        choices=("method", "model", "recipe", "suite", "experiment", "run", "schema"),
        help="kind of entry; schema: the JSON schema of suite files, which takes no name",
    )
    show.add_argument(
        "name", nargs="?", default="", help="the entry's name; of an experiment or run, the beginning of its identity"
    )
    places(show)
    json_flag(show)


def _doctor(commands: Commands[argparse.ArgumentParser]) -> None:
    doctor = commands.add_parser("doctor", help="show what is installed, found and missing, and how to fix it")
    places(doctor)
    json_flag(doctor)


def _launching(run: argparse.ArgumentParser) -> None:
    jobs = run.add_argument_group("jobs", "only with --launcher; docs/cluster.md explains each step")
    jobs.add_argument(
        "--launcher",
        choices=("slurm", "local", "debug"),
        help="submit jobs: to Slurm, as one process for each device of this machine, or in this process "
        "(default: run here without jobs)",
    )
    jobs.add_argument("--partition", metavar="NAME", help="Slurm partition (default: the cluster's default)")
    jobs.add_argument(
        "--gpus", type=counted, metavar="N", help="GPUs for each run; 0: none (default: as its recipe says)"
    )
    jobs.add_argument("--ranks", type=positive, metavar="N", help="processes for each run (default: one for each GPU)")
    jobs.add_argument("--nodes", type=positive, default=1, metavar="N", help="nodes for each run (default: 1)")
    jobs.add_argument(
        "--cpus",
        type=positive,
        metavar="N",
        help="cores for each process (default: --threads; without it 4 on a GPU, 1 on a CPU)",
    )
    jobs.add_argument(
        "--minutes", type=positive, metavar="M", help="time limit of each job (default: from the estimate)"
    )
    jobs.add_argument(
        "--batch-minutes",
        type=float,
        default=60.0,
        metavar="M",
        help="put short runs into one job up to this estimated time (default: 60)",
    )
    jobs.add_argument("--max-parallel", type=positive, metavar="N", help="jobs running at a time (default: no limit)")
    jobs.add_argument(
        "--requeues",
        type=counted,
        default=100,
        metavar="N",
        help="how many times a stopped job is queued again (default: 100)",
    )
    jobs.add_argument(
        "--slurm",
        type=assignment,
        action="append",
        default=[],
        metavar="KEY=VALUE",
        help="any option of sbatch, such as account=vision or qos=preemptable; may be repeated",
    )
    jobs.add_argument("--wait", action="store_true", help="wait until the jobs have ended, then print the tables")


ALL = (
    _run,
    _plan,
    _status,
    _cancel,
    _eval,
    _distill,
    _export,
    _rerun,
    _bridge,
    _collect,
    _report,
    _verify,
    _bench,
    _list,
    _show,
    _doctor,
)
