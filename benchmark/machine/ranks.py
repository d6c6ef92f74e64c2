"""The processes that train one run together, and what they exchange.

A process joins the group by the variables that torchrun or another launcher sets: RANK, WORLD_SIZE, LOCAL_RANK,
MASTER_ADDR, MASTER_PORT. Decisions are exchanged by gloo on the CPU, so that they never wait for a GPU.
"""

from __future__ import annotations

import contextlib
import datetime
import os
import pickle
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TypeVar, cast

import torch
from torch import Tensor
from torch import distributed as dist

from benchmark.errors import BenchmarkError, UsageError

VARIABLES = ("RANK", "WORLD_SIZE", "LOCAL_RANK", "MASTER_ADDR", "MASTER_PORT")
SILENCE = datetime.timedelta(minutes=30)  # longest wait for another rank; one rank's evaluation must fit into it

T = TypeVar("T")


@dataclass(frozen=True)
class Ranks:
    """A process among those that train one run together. With `world` 1, all methods return at once."""

    rank: int = 0
    world: int = 1

    @property
    def leads(self) -> bool:
        """Return True if this process writes records and checkpoints."""
        return self.rank == 0

    def any(self, *flags: bool) -> tuple[bool, ...]:
        """Return, for each flag, True if any rank has set it."""
        if self.world == 1:
            return flags
        found = torch.tensor(flags, dtype=torch.int32)
        dist.all_reduce(found, dist.ReduceOp.MAX)
        return tuple(bool(value) for value in found.tolist())

    def told(self, value: T) -> T:
        """Return the leader's value on every rank. The values of the other ranks are ignored."""
        if self.world == 1:
            return value
        held = [value if self.leads else None]
        dist.broadcast_object_list(held, device=torch.device("cpu"))
        return cast("T", held[0])

    def all(self, value: T) -> list[T]:
        """Return every rank's value, in order of rank."""
        if self.world == 1:
            return [value]
        # Not all_gather_object, which would send the bytes by way of the GPU if the group has NCCL.
        content = torch.frombuffer(bytearray(pickle.dumps(value)), dtype=torch.uint8)
        sizes = [torch.zeros(1, dtype=torch.int64) for _ in range(self.world)]
        dist.all_gather(sizes, torch.tensor([len(content)]))
        longest = max(int(size) for size in sizes)
        padded = torch.cat([content, content.new_zeros(longest - len(content))])
        found = [torch.empty_like(padded) for _ in range(self.world)]
        dist.all_gather(found, padded)
        return [pickle.loads(bytes(one[: int(size)].tolist())) for one, size in zip(found, sizes, strict=True)]

    def sum(self, tensor: Tensor) -> Tensor:
        """Sum a tensor in place over all ranks, and return it."""
        if self.world > 1:
            dist.all_reduce(tensor)
        return tensor

    def gather(self, tensor: Tensor) -> Tensor:
        """Concatenate every rank's tensor along the first dimension. All shapes must be equal."""
        if self.world == 1:
            return tensor
        parts = [torch.empty_like(tensor, memory_format=torch.contiguous_format) for _ in range(self.world)]
        dist.all_gather(parts, tensor.contiguous())
        return torch.cat(parts)

    def share(self, tensors: Iterator[Tensor]) -> None:
        """Overwrite tensors with the leader's values."""
        if self.world > 1:
            for tensor in tensors:
                dist.broadcast(tensor, 0)

    def together(self, action: Callable[[], T]) -> T:
        """Run an action on every rank. If it fails on one rank, raise on all, so that no rank waits forever.

        Raises:
            BenchmarkError: the error of this rank, or else that of the first rank with an error.
        """
        if self.world == 1:
            return action()
        result, error = None, None
        try:
            result = action()
        except BenchmarkError as found:
            error = found
        errors = self.all(None if error is None else _SentError.of(error))
        first = next((sent for sent in errors if sent is not None), None)
        if error is not None:
            raise error
        if first is not None:
            raise first.kind(first.message, first.fix)
        return result  # type: ignore[return-value]  # None only where an error was raised

    def leader_first(self, action: Callable[[], T]) -> T:
        """Run an action on the leader, then on the others, which find the files that it downloaded or made."""
        if self.world == 1:
            return action()
        done = self.together(lambda: [action()] if self.leads else [])
        return self.together(lambda: done[0] if done else action())


@dataclass(frozen=True)
class _SentError:
    """A project error in a form that can be sent: exceptions with two arguments do not survive pickling."""

    kind: type[BenchmarkError]
    message: str
    fix: str

    @classmethod
    def of(cls, error: BenchmarkError) -> _SentError:
        return cls(type(error), error.message, error.fix)


ALONE = Ranks()


def asked_for() -> int:
    """Return the number of processes that a launcher has started for one run; 1 without a launcher."""
    text = os.environ.get("WORLD_SIZE", "1")
    if not text.isdigit() or int(text) < 1:
        raise UsageError(
            f"WORLD_SIZE is {text!r}, which is not a number of processes",
            "unset WORLD_SIZE, or start the command with torchrun, which sets it",
        )
    return int(text)


@contextlib.contextmanager
def joined(device: str) -> Iterator[Ranks]:
    """Join the group that a launcher has started, and leave it after the block. Without a launcher, yield `ALONE`.

    Raises:
        UsageError: the environment has only some of the variables that a launcher sets.
    """
    world = asked_for()
    if world == 1:
        yield ALONE
        return
    absent = [name for name in VARIABLES if name not in os.environ]
    if absent:
        raise UsageError(
            f"WORLD_SIZE is {world}, but {', '.join(absent)} is not set",
            f"torchrun --nproc_per_node {world} -m benchmark run ...",
        )
    on_gpu = device.startswith("cuda")
    if on_gpu:
        torch.cuda.set_device(device)
    dist.init_process_group("cpu:gloo,cuda:nccl" if on_gpu else "gloo", timeout=SILENCE)
    try:
        yield Ranks(dist.get_rank(), dist.get_world_size())
    finally:
        dist.destroy_process_group()
