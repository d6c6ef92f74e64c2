"""Two processes train what one would: the same losses and weights, one record, agreed stops, resumed bit for bit."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from small import ROOT, command, environment
from two_ranks import METHOD, NETWORK

from benchmark.cli.parser import main
from benchmark.data.generated_folder import generate
from benchmark.errors import UsageError
from benchmark.machine import ranks
from benchmark.machine.ranks import Ranks, asked_for, joined
from benchmark.paper.datasets import GENERATED_FOLDER
from benchmark.train.classification.classification_task import STAND_IN
from methods.base import Moment

TOGETHER = ("shards", "shards-resumed", "noise", "memory", "memory-resumed", "device")
ALONE = ("shards", "noise", "device")


def free_port() -> int:
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        port: int = found.getsockname()[1]
        return port


def started(folder: Path, rank: int, world: int, port: int, names: tuple[str, ...]) -> subprocess.Popen[str]:
    who = {"RANK": str(rank), "LOCAL_RANK": str(rank), "WORLD_SIZE": str(world)}
    where = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port), "BENCHMARK_EXTRA": str(folder / "extra")}
    command = [sys.executable, str(ROOT / "tests" / "train" / "engine" / "two_ranks.py"), str(folder), *names]
    variables = environment(**who, **where, XDG_CACHE_HOME=str(folder / f"cache-{world}-{rank}"))
    return subprocess.Popen(
        command, env=variables, cwd=folder, text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT
    )


def carried_out(folder: Path, world: int, names: tuple[str, ...]) -> dict[str, Any]:
    port = free_port()
    processes = [started(folder, rank, world, port, names) for rank in range(world)]
    shown = [process.communicate(timeout=240)[0] for process in processes]
    assert [process.returncode for process in processes] == [0] * world, "\n".join(shown)
    found: dict[str, Any] = json.loads((folder / f"found-{world}.json").read_text())
    return found


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("ranks")
    (folder / "extra").mkdir()
    (folder / "extra" / "plain.py").write_text(NETWORK)
    (folder / "extra" / "noisy.py").write_text(METHOD)
    generate(folder / GENERATED_FOLDER, STAND_IN)
    return folder


@pytest.fixture(scope="module")
def two(folder: Path) -> dict[str, Any]:
    return carried_out(folder, 2, TOGETHER)


@pytest.fixture(scope="module")
def one(folder: Path) -> dict[str, Any]:
    return carried_out(folder, 1, ALONE)


def student(folder: Path, name: str, world: int) -> dict[str, torch.Tensor]:
    (path,) = (folder / f"{name}-{world}").rglob("student.pt")
    state: dict[str, torch.Tensor] = torch.load(path, weights_only=True)
    return state


@pytest.mark.slow
@pytest.mark.parametrize("name", ALONE[:2])
def test_two_processes_give_the_losses_of_one_with_the_same_global_batch(
    folder: Path, one: dict[str, Any], two: dict[str, Any], name: str
) -> None:
    """Batch norm allows it where the recipe states what it sees (`shards`), or where there is none (`noise`)."""
    assert (one[name]["processes"], two[name]["processes"]) == (1, 2)
    assert one[name]["identity"] == two[name]["identity"]
    for part in ("tracked", "last"):
        assert one[name][part] == pytest.approx(two[name][part], rel=1e-4, abs=1e-5)
    alone, together = student(folder, name, 1), student(folder, name, 2)
    assert alone.keys() == together.keys()
    for tensor, other in zip(alone.values(), together.values(), strict=True):
        torch.testing.assert_close(tensor, other, rtol=1e-3, atol=1e-4)


@pytest.mark.slow
def test_without_a_stated_part_batch_norm_sees_a_ranks_and_losses_differ(
    one: dict[str, Any], two: dict[str, Any]
) -> None:
    assert one["device"]["tracked"]["task"] != pytest.approx(two["device"]["tracked"]["task"], rel=1e-4)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["shards", "memory"])
def test_a_job_that_one_rank_stopped_resumes_bit_for_bit(two: dict[str, Any], name: str) -> None:
    assert two[f"{name}-resumed"] == two[name]


@pytest.mark.slow
def test_no_test_image_counts_twice(one: dict[str, Any], two: dict[str, Any]) -> None:
    """The random teacher is the same, and so is what it makes of 19 images, ten on one rank and nine on the other."""
    assert one["shards"]["teacher"] == pytest.approx(two["shards"]["teacher"])
    assert one["device"]["teacher"] == pytest.approx(two["device"]["teacher"])


@pytest.mark.slow
def test_an_error_of_one_rank_is_all_ranks_error(two: dict[str, Any]) -> None:
    assert two["asymmetric"] == "MissingInput: only here"


def test_noise_is_drawn_for_the_whole_batch_and_each_rank_keeps_its_own() -> None:
    def moment(part: tuple[int, int]) -> Moment:
        return Moment(torch.zeros(()), torch.zeros(()), torch.Generator().manual_seed(1), part=part)

    whole, parts = moment((0, 1)), [moment((place, 2)) for place in range(2)]
    assert torch.equal(
        whole.normal_like(torch.empty(6, 5)), torch.cat([part.normal_like(torch.empty(3, 5)) for part in parts])
    )
    cpu = torch.device("cpu")
    assert torch.equal(whole.integers(9, (6, 2), cpu), torch.cat([part.integers(9, (3, 2), cpu) for part in parts]))


def test_a_broken_environment_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WORLD_SIZE", "two")
    with pytest.raises(UsageError, match="WORLD_SIZE is 'two'"):
        asked_for()
    monkeypatch.setenv("WORLD_SIZE", "2")
    monkeypatch.delenv("RANK", raising=False)
    with pytest.raises(UsageError, match=r"WORLD_SIZE is 2, but RANK, .* is not set"), joined("cpu"):
        pass


@pytest.mark.slow
def test_torchrun_leaves_one_record_and_a_killed_job_goes_on(workplace: Path) -> None:
    """The leader is killed in mid-run, and torchrun ends the other. The same command ends as undisturbed."""
    suite = workplace / "two.yaml"
    suite.write_text(SUITE)

    def torchrun(place: str, *more: str) -> subprocess.Popen[str]:
        launcher = [sys.executable, "-m", "torch.distributed.run", "--nproc_per_node", "2"]
        launcher += ["--master_port", str(free_port()), "-m", "benchmark", "run", str(suite), "--device", "cpu"]
        places = ["--results-dir", f"{place}/results", "--runs-dir", f"{place}/runs"]
        return subprocess.Popen(
            [*launcher, "--threads", "1", *places, *more],
            env=environment(PYTHONWARNINGS="default"),
            text=True,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
        )

    straight = torchrun("straight")
    shown = straight.communicate(timeout=240)[0]
    assert straight.returncode == 0, shown
    assert shown.count("### Small") == 1, "one process speaks"
    killed = torchrun("killed", "--checkpoint-seconds", "0")
    checkpoints = workplace / "killed" / "runs" / "work"
    _wait_for(lambda: any(checkpoints.glob("*/previous-checkpoint.pt")), killed)
    (attempts,) = checkpoints.glob("*/attempts.txt")
    os.kill(int(json.loads(attempts.read_text())["pid"]), signal.SIGKILL)
    killed.communicate(timeout=120)
    assert killed.returncode != 0, "torchrun ends the other when one is killed"
    again = torchrun("killed")
    shown = again.communicate(timeout=240)[0]
    assert again.returncode == 0, shown
    assert "resuming from epoch" in shown
    assert _records(workplace / "straight") == _records(workplace / "killed")


DENSE = ["run", "table7", "table6", "--profile", "smoke", "--only", "*DiffKD*", "--device", "cpu", "--threads", "1"]


class First(Ranks):
    """The first of several processes, which need not be there: all agree with it."""

    def told(self, value: Any) -> Any:
        return value

    def together(self, action: Any) -> Any:
        return action()


def test_several_processes_are_refused_what_one_must_train_before_anything_is_trained(
    workplace: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(ranks, "joined", lambda device: contextlib.nullcontext(First(0, 2)))
    assert main(DENSE) == 2
    _assert_refused(capsys.readouterr().err, workplace)


@pytest.mark.slow
def test_two_processes_each_refuse_and_end(workplace: Path) -> None:
    port = free_port()
    processes = []
    for rank in range(2):
        who = {"RANK": str(rank), "LOCAL_RANK": str(rank), "WORLD_SIZE": "2"}
        where = environment(**who, MASTER_ADDR="127.0.0.1", MASTER_PORT=str(port))
        processes.append(subprocess.Popen(command(*DENSE), env=where, text=True, stderr=subprocess.PIPE))
    shown = [process.communicate(timeout=240)[1] for process in processes]
    assert [process.returncode for process in processes] == [2, 2], shown
    assert "Traceback" not in shown[0] + shown[1]
    _assert_refused(shown[0], workplace)


@pytest.mark.slow
def test_torchrun_is_refused_what_one_process_must_train(workplace: Path) -> None:
    launcher = [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node", "2"]
    started = [*launcher, "--master_port", str(free_port()), "-m", "benchmark", *DENSE]
    done = subprocess.run(started, env=environment(PYTHONWARNINGS="default"), capture_output=True, text=True)
    assert done.returncode != 0
    assert "exitcode  : 2" in done.stderr
    _assert_refused(done.stderr, workplace)


def _assert_refused(shown: str, workplace: Path) -> None:
    assert "error: 2 processes by torchrun (WORLD_SIZE 2): detection and segmentation train in one process" in shown
    assert "fix: python -m benchmark run table7 table6; with torchrun, name only suites of classification" in shown
    assert not [path for path in workplace.rglob("*") if path.suffix in (".pt", ".json", ".txt")]


SUITE = """
suite: two
title: Small
source: ours
profile: smoke
setting: {task: classification, data: imagenet, student: resnet8, recipe: B1}
profiles: {smoke: {epochs: 3, train: 96, test: 19, batch: 8, image_size: 32}}
columns: [{column: Top-1, metric: top1}]
rows: [{row: Student, method: none}]
"""


def _wait_for(condition: Any, process: subprocess.Popen[str]) -> None:
    import time

    for _ in range(1200):
        if condition():
            return
        assert process.poll() is None, process.communicate()[0]
        time.sleep(0.1)
    raise AssertionError("it never happened")


def _records(folder: Path) -> list[dict[str, Any]]:
    from benchmark.records.store import Record

    paths = sorted((folder / "runs" / "records").rglob("r0.json"))
    return [Record.model_validate_json(path.read_text()).outcome() for path in paths]
