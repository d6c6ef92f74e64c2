"""Measurement of the speed in docs/performance.md: `python docs/measure_step.py [--pairs 15] [--threads 2] [--eager]`.

One DiffKD training step, resnet56 -> resnet20, batch 64, feature and logits branches, official variant. The engine's
step and the straightforward one of tests/reference take turns in one process, with and without augmentation; the
reference's images then come from a DataLoader with two workers.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from itertools import count
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(ROOT), str(ROOT / "tests")]

from benchmark.machine.process import settle  # noqa: E402

settle()  # as the command line does, before torch is loaded

import torch  # noqa: E402
from reference.eager_step import EagerStep, loader  # noqa: E402
from torch import Tensor  # noqa: E402

from benchmark.data.random_images import noise  # noqa: E402
from benchmark.models.registry import model  # noqa: E402
from benchmark.plan.experiment import Run  # noqa: E402
from benchmark.records.store import Store  # noqa: E402
from benchmark.train.classification.training import Training  # noqa: E402
from benchmark.train.settings import Settings  # noqa: E402
from benchmark.verify.exported_students import experiment  # noqa: E402
from methods.base import Batch  # noqa: E402

BATCH, STEPS = 64, 40


def training(folder: Path, eager: bool) -> Training:
    """Build a run of the measured step, compiled unless `eager`."""
    weights = folder / "teacher.pt"
    torch.manual_seed(0)
    torch.save(model("resnet56").build(100).state_dict(), weights)
    run = Run(experiment("diffkd", "resnet20", "resnet56", weights, BATCH), 0)
    settings = Settings(store=Store(folder / "results", folder / "runs"), compile="never" if eager else "always")
    made = Training(run, noise(BATCH * STEPS), settings)
    next(made.advancing())
    print(f"the engine's step is {made.stepper.kind}")
    return made


def stepped(made: Training, batch: Batch) -> None:
    """Train one step on a prepared batch."""
    with made.arithmetic():
        made.stepper.step(batch, 0.0, made.meter, 0)


def endless(made: Training) -> Iterator[tuple[Tensor, Tensor]]:
    """Yield the reference's augmented batches without end."""
    for epoch in count():
        yield from loader(made.data.train, made.data.epoch_plan(0, epoch), BATCH)


def ratios(reference: Callable[[], None], ours: Callable[[], None], pairs: int, tell: str) -> None:
    """Print the reference's time over ours: median and range of interleaved pairs, each after two untimed."""
    found: list[float] = []
    times: dict[str, list[float]] = {"reference": [], "ours": []}
    for number in range(pairs + 2):
        seconds = {}
        order = [("reference", reference), ("ours", ours)]
        for name, step in order if number % 2 else reversed(order):
            began = time.perf_counter()
            step()
            seconds[name] = time.perf_counter() - began
        if number >= 2:
            found.append(seconds["reference"] / seconds["ours"])
            for name, value in seconds.items():
                times[name].append(value)
    middle = {name: 1000 * statistics.median(values) for name, values in times.items()}
    print(
        f"{tell}: {statistics.median(found):.2f} x the reference's throughput, "
        f"{min(found):.2f} to {max(found):.2f} over {pairs} pairs "
        f"(medians {middle['reference']:.0f} and {middle['ours']:.0f} ms)",
        flush=True,
    )


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--pairs", type=int, default=15)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--eager", action="store_true", help="the engine's step without a compiler")
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    with tempfile.TemporaryDirectory() as folder:
        made = training(Path(folder), arguments.eager)
        plain, plan = EagerStep(made), made.data.epoch_plan(0, 0)
        batch = made.data.batch(plan, 0, BATCH)
        inputs = batch.inputs.contiguous()
        ratios(
            lambda: plain.step(inputs, batch.targets) and None,
            lambda: stepped(made, batch),
            arguments.pairs,
            "without augmentation",
        )
        images = endless(made)
        steps = count()

        def ours() -> None:
            made.step = next(steps) % STEPS
            made.one_step(plan)

        ratios(lambda: plain.step(*next(images)) and None, ours, arguments.pairs, "with augmentation")


if __name__ == "__main__":
    main()
