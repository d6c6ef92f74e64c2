"""`bench`: what each method costs to train, measured beside the plain student."""

from __future__ import annotations

import argparse
import json
import sys
from dataclasses import asdict, replace

from benchmark.commands.run import pick_device


def main(arguments: argparse.Namespace) -> int:
    """Measure, print, and write bench.json, bench.md and bench.svg; the exit code."""
    if arguments.predictors:
        return _predictors(arguments)
    import torch

    from benchmark.bench import parse_pair, published_gains, run
    from benchmark.bench_report import markdown, svg
    from benchmark.engine.training import Settings
    from benchmark.files import write_text
    from benchmark.verify.findings import Findings
    from benchmark.verify.pairs import lint
    from methods.registry import method, methods

    parse_pair(arguments.pair)
    names = [method(name).name for name in arguments.methods] or list(methods())
    if arguments.threads:
        torch.set_num_threads(arguments.threads)
    settings = Settings(device=pick_device(arguments.device), say=lambda text: None)

    bench = run(names, arguments.pair, arguments.batch, arguments.rounds, settings, _say)
    gains = published_gains(lint(Findings()), arguments.pair)  # a manifest with a mistake costs its own gains only
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


def _predictors(arguments: argparse.Namespace) -> int:
    import torch

    from benchmark import predictors
    from benchmark.files import write_text

    if arguments.threads:
        torch.set_num_threads(arguments.threads)
    device = pick_device(arguments.device)
    costs = predictors.measured(predictors.BATCH, arguments.rounds, device, _say)
    told = predictors.markdown(costs, predictors.BATCH, arguments.rounds, device)
    data = json.dumps([asdict(found) for found in costs], indent=1) + "\n"
    for suffix, content in (("json", data), ("md", told)):
        write_text(arguments.output / f"predictors.{suffix}", content)
    print(data if arguments.json else told)
    print(f"written to {arguments.output}/predictors.json, .md", file=sys.stderr)
    return 0


def _say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)
