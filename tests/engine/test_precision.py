"""Precision is refused where a device lacks it, and given back as it was."""

from __future__ import annotations

import pytest
import torch

from benchmark.engine import precision
from benchmark.errors import UsageError

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
