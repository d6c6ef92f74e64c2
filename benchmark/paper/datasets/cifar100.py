"""CIFAR-100 (Krizhevsky, 2009)."""

from __future__ import annotations

from benchmark.paper.datasets.entry import DataSet, StandIn

DATA_SET = DataSet(
    name="cifar100",
    title="CIFAR-100",
    task="classification",
    layout="memory",
    classes=100,
    training=50_000,
    test=10_000,
    stand_in=StandIn("generated", "generated-v1"),
    trained=(3, 32, 32),
    counted=(3, 32, 32),
)
