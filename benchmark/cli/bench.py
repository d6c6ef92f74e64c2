"""`bench`: what each method costs to train, measured beside the plain student; with `--speed`, how fast training is."""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from dataclasses import asdict, replace
from typing import TYPE_CHECKING

from benchmark.cli import requests
from benchmark.machine.devices import pick_device

if TYPE_CHECKING:
    from benchmark.train.settings import Settings


def main(arguments: requests.Bench) -> int:
    """Measure, print, and write bench.json, bench.md and bench.svg. Return the exit code."""
    if arguments.predictors:
        return _predictors(arguments)
    import torch

    from benchmark.bench.drawing import markdown, svg
    from benchmark.bench.step_cost import parse_pair, published_gains, run
    from benchmark.machine.files import write_text
    from benchmark.train.settings import Settings
    from benchmark.verify.findings import Findings
    from benchmark.verify.pairs import lint
    from methods.registry import method, methods

    parse_pair(arguments.pair)
    names = [method(name).name for name in arguments.methods] or list(methods())
    if arguments.threads:
        torch.set_num_threads(arguments.threads)
    settings = Settings(device=pick_device(arguments.device), say=lambda text: None)

    if arguments.speed:
        return speed(arguments, names, settings)
    bench = run(names, arguments.pair, arguments.batch, arguments.rounds, settings, _say)
    # `lint` skips a manifest with a mistake, where `load_all` would raise: only that suite's gains are missing then.
    gains = published_gains(lint(Findings()), arguments.pair)
    bench.costs = [
        replace(cost, gain=gains[cost.method][0], gain_source=gains[cost.method][1]) if cost.method in gains else cost
        for cost in bench.costs
    ]
    written = {"json": json.dumps(bench.as_json(), indent=1) + "\n", "md": markdown(bench), "svg": svg(bench)}
    for suffix, content in written.items():
        if content:
            write_text(arguments.output / f"bench.{suffix}", content)
    print(written["json"] if arguments.json else written["md"])
    print(f"written to {arguments.output}/bench.json, .md{', .svg' if written['svg'] else ''}", file=sys.stderr)
    return 0


def speed(arguments: requests.Bench, names: Sequence[str], settings: Settings) -> int:
    """Measure the speed of pairs and methods, and estimate the hours of suites.

    Write speed.json and speed.md to the output folder, and the rates to the file that `plan` and `run` read.
    """
    from benchmark.bench.speed import cases_of, keep, markdown, measure, suite_hours
    from benchmark.machine.files import write_text
    from benchmark.paper.manifest import load, load_all, suite_path

    asked = [load(suite_path(name)) for name in arguments.suite]
    cases = cases_of(asked) or [(arguments.pair, name) for name in names]
    if arguments.methods:
        cases = [case for case in cases if case[1] in names]
    found = measure(cases, arguments.batch, arguments.rounds, arguments.pack, arguments.compile, settings, _say)
    found.suite_hours = suite_hours(asked or load_all(), found)
    kept = keep(found, arguments.runs_dir)
    written = {"json": json.dumps(found.as_json(), indent=1) + "\n", "md": markdown(found)}
    for suffix, content in written.items():
        write_text(arguments.output / f"speed.{suffix}", content)
    print(written["json"] if arguments.json else written["md"])
    print(f"written to {arguments.output}/speed.json, .md; `plan` and `run` read {kept}", file=sys.stderr)
    return 0


def _predictors(arguments: requests.Bench) -> int:
    import torch

    from benchmark.bench import predictors
    from benchmark.machine.files import write_text

    if arguments.threads:
        torch.set_num_threads(arguments.threads)
    device = pick_device(arguments.device)
    costs = predictors.measured(predictors.BATCH, arguments.rounds, device, _say)
    table = predictors.markdown(costs, predictors.BATCH, arguments.rounds, device)
    data = json.dumps([asdict(found) for found in costs], indent=1) + "\n"
    for suffix, content in (("json", data), ("md", table)):
        write_text(arguments.output / f"predictors.{suffix}", content)
    print(data if arguments.json else table)
    print(f"written to {arguments.output}/predictors.json, .md", file=sys.stderr)
    return 0


def _say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)
