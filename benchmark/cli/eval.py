"""`eval`: evaluate a checkpoint on a data set, and compare it with its published accuracy."""

from __future__ import annotations

import json
import time

from benchmark.cli import requests
from benchmark.cli.planning import store_of
from benchmark.errors import CHECK_FAILED, UsageError
from benchmark.machine.devices import pick_device
from benchmark.models.registry import NETWORK_LIBRARIES


def main(arguments: requests.Eval) -> int:
    """Print metrics and the gap. Return 5 if the gap is wider than the teacher gate allows, else 0."""
    import torch

    from benchmark.train.classification.evaluation import EvaluationRequest, evaluated

    device = torch.device(pick_device(arguments.device))
    if arguments.threads:
        torch.set_num_threads(arguments.threads)
    asked = EvaluationRequest(
        model=arguments.model,
        data=arguments.data,
        weights=arguments.weights or tagged(arguments.model),
        sha256=arguments.sha256,
        published=arguments.published,
        data_dir=arguments.data_dir,
        workers=arguments.workers,
    )
    began = time.monotonic()
    found = evaluated(asked, store_of(arguments), device)
    if arguments.json:
        print(json.dumps(found, indent=1))
    else:
        print(_text(found, time.monotonic() - began))
    return 0 if found.get("passes", True) else CHECK_FAILED


def tagged(name: str) -> str:
    """Return the weights that a model's name states: `timm:resnet50.a1_in1k` has a tag.

    Raises:
        UsageError: the name states no weights.
    """
    library, _, bare = name.partition(":")
    if library == "timm" and "." in bare:
        return name
    named = name if library in NETWORK_LIBRARIES else "torchvision:NAME or timm:NAME"
    raise UsageError(f"no weights are given for {name}", f"--weights W, where W is a file, a URL, or {named}")


def _text(found: dict[str, object], seconds: float) -> str:
    lines = [
        f"{found['model']} with {found['weights']}",
        f"top-1 {found['top1']:.2f}, top-5 {found['top5']:.2f}, loss {found['loss']:.4f} in {seconds:.0f} s",
    ]
    if found["published"] is None:
        lines.append("no published accuracy is known for these weights; give one with --published TOP1 to compare")
    else:
        verdict = "passes" if found["passes"] else "MISSES"
        lines.append(
            f"published {found['published']}: gap {found['gap']:+.2f}, "
            f"{verdict} the teacher gate of {found['tolerance']} for pinned weights"
        )
    return "\n".join(lines)
