"""Precision is refused where a device lacks it, and given back as it was."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest
import torch

from benchmark.errors import UsageError
from benchmark.train import precision

CPU = torch.device("cpu")


@pytest.mark.parametrize("name", ["tf32", "fp16"])
def test_what_the_cpu_lacks_is_refused(name: str) -> None:
    with pytest.raises(UsageError, match=f"{name} needs a CUDA device") as caught:
        precision.check(name, CPU)
    assert "precision fp32 or bf16" in caught.value.fix


@pytest.mark.parametrize("name", ["fp32", "bf16"])
def test_what_the_cpu_has_is_taken(name: str) -> None:
    precision.check(name, CPU)
    with precision.autocast(name, CPU):
        product = torch.ones(2, 2) @ torch.ones(2, 2)
    assert product.dtype == {"fp32": torch.float32, "bf16": torch.bfloat16}[name]


def test_the_arithmetic_of_a_run_is_given_back() -> None:
    def state() -> tuple[str, bool, bool]:
        filling = torch.utils.deterministic.fill_uninitialized_memory  # type: ignore[attr-defined]
        return torch.get_float32_matmul_precision(), torch.are_deterministic_algorithms_enabled(), filling

    before = state()
    with pytest.raises(ZeroDivisionError), precision.arithmetic("tf32", deterministic=True):
        assert state() == ("high", True, False)  # new tensors are not filled with NaN
        raise ZeroDivisionError
    assert state() == before


BACKENDS: Any = torch.backends
WHOLE = (BACKENDS, BACKENDS.cudnn, BACKENDS.mkldnn)
PARTS = (BACKENDS.cuda.matmul, BACKENDS.mkldnn.matmul, BACKENDS.cudnn.conv, BACKENDS.cudnn.rnn, BACKENDS.mkldnn.conv)


def newer() -> list[str]:
    """What torch's newer interface says of each operation; it always answers."""
    return [switch.fp32_precision for switch in PARTS]


@pytest.fixture
def as_before() -> Iterator[None]:
    older, was = (torch.get_float32_matmul_precision(), torch.backends.cudnn.allow_tf32), newer()
    yield
    for switch in WHOLE:
        switch.fp32_precision = "none"
    torch.set_float32_matmul_precision(older[0])
    torch.backends.cudnn.allow_tf32 = older[1]
    for switch, value in zip(PARTS, was, strict=True):
        switch.fp32_precision = value


def by_the_older_interface() -> None:
    torch.set_float32_matmul_precision("medium")
    torch.backends.cudnn.allow_tf32 = True


def by_the_newer_for_convolutions() -> None:
    torch.backends.cudnn.allow_tf32 = False
    BACKENDS.cudnn.conv.fp32_precision = "tf32"


def by_the_newer_for_everything() -> None:
    BACKENDS.fp32_precision = "tf32"
    BACKENDS.cuda.matmul.fp32_precision = "tf32"


@pytest.mark.parametrize(
    "user", [lambda: None, by_the_older_interface, by_the_newer_for_convolutions, by_the_newer_for_everything]
)
@pytest.mark.parametrize("name", ["fp32", "tf32"])
def test_products_are_as_recorded_whichever_interface_was_used_before(
    user: Callable[[], None], name: str, as_before: None
) -> None:
    user()
    before = newer()
    for _ in range(2):
        with precision.arithmetic(name), precision.arithmetic(name, deterministic=True):
            expected = {"fp32": ("highest", False, "ieee"), "tf32": ("high", True, "tf32")}[name]
            assert (torch.get_float32_matmul_precision(), torch.backends.cudnn.allow_tf32) == expected[:2]
            assert newer() == [expected[2]] * len(PARTS)
        assert newer() == before
