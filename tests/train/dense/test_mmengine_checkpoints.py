"""Checkpoints as MMEngine itself writes them: more than tensors is in them, and none of it is run."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

pytest.importorskip("mmengine", reason="needs pip install '.[dense]'")

from mmengine.logging import MessageHub
from mmengine.model import BaseModel
from mmengine.runner import Runner, save_checkpoint

from benchmark.errors import MissingInput
from benchmark.models import openmmlab
from benchmark.models.checkpoints import WeightFile
from benchmark.train.dense import loading
from benchmark.train.dense.generators import own_generators


class Line(BaseModel):  # type: ignore[misc]
    """A straight line through numbers."""

    def __init__(self) -> None:
        super().__init__()
        self.slope = nn.Linear(1, 1)

    def forward(self, inputs: Tensor, mode: str = "tensor") -> dict[str, Tensor]:
        return {"loss": self.slope(inputs).square().mean()}


def trained(folder: Path) -> tuple[Line, Path]:
    """By MMEngine's Runner, whose own hook saves it after four steps."""
    openmmlab.prepare()
    model, loader = Line(), torch.utils.data.DataLoader([{"inputs": torch.ones(1)}] * 4, batch_size=1)  # type: ignore[arg-type]
    with own_generators("fp32", torch.device("cpu")):
        Runner(
            model=model,
            work_dir=str(folder),
            train_dataloader=loader,
            train_cfg={"by_epoch": True, "max_epochs": 1},
            optim_wrapper={"optimizer": {"type": "SGD", "lr": 0.1, "momentum": 0.9}},
            param_scheduler=[{"type": "MultiStepLR", "milestones": [1]}],
            default_hooks={
                "checkpoint": {"type": "CheckpointHook", "interval": 1},
                "logger": {"type": "LoggerHook", "interval": 1},
            },
            experiment_name=folder.name,
            log_level="CRITICAL",
        ).train()
    return model, folder / "epoch_1.pth"


def test_what_a_runner_saved_is_read_whole(tmp_path: Path) -> None:
    model, path = trained(tmp_path)
    with pytest.raises(Exception, match=r"HistoryBuffer|scalar|getattr"):  # what makes the file hard to read
        torch.load(path, weights_only=True)
    found = Line()
    loading.load_whole(found, WeightFile.read(path))
    assert all(torch.equal(tensor, found.state_dict()[name]) for name, tensor in model.state_dict().items())


@pytest.mark.parametrize("prefix", ["", "module."])
def test_numbers_of_numpy_and_the_optimiser_are_unsupported(tmp_path: Path, prefix: str) -> None:
    network = nn.Linear(2, 3)
    hub = MessageHub.get_instance(tmp_path.name)
    hub.update_scalar("train/loss", np.float64(0.5))
    optimiser = torch.optim.SGD(network.parameters(), 0.1, momentum=0.9)
    content = {
        "meta": {"seed": np.int64(3), "best": np.float32(0.25), "places": np.arange(3)},
        "state_dict": {prefix + name: tensor for name, tensor in network.state_dict().items()},
        "optimizer": optimiser.state_dict(),
        "message_hub": hub.state_dict(),
    }
    save_checkpoint(content, str(tmp_path / "saved.pth"))
    found = WeightFile.read(tmp_path / "saved.pth").tensors()
    assert all(torch.equal(tensor, found[name]) for name, tensor in network.state_dict().items())
    assert len(found) == 2


def touch(path: str) -> None:
    Path(path).touch()


class Trap:
    """Would write a file if its pickle were carried out."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Any, ...]:
        return touch, (str(self.path),)


def test_nothing_in_a_checkpoint_is_run(tmp_path: Path) -> None:
    network, trap = nn.Linear(2, 3), tmp_path / "trap"
    torch.save({"meta": Trap(trap), "state_dict": network.state_dict()}, tmp_path / "saved.pth")
    assert torch.equal(WeightFile.read(tmp_path / "saved.pth").tensors()["bias"], network.bias)
    assert not trap.exists()
    torch.load(tmp_path / "saved.pth", weights_only=False)
    assert trap.exists(), "the trap itself works"


def test_a_file_of_before_torch_1_6_is_read(tmp_path: Path) -> None:
    network, path = nn.Linear(2, 3), tmp_path / "saved.pth"
    torch.save({"state_dict": network.state_dict()}, path, _use_new_zipfile_serialization=False)
    assert torch.equal(WeightFile.read(path).tensors()["bias"], network.bias)


def test_what_holds_no_tensors_is_refused_with_what_to_do(tmp_path: Path) -> None:
    path = tmp_path / "saved.pth"
    path.write_bytes(b"something else")
    with pytest.raises(MissingInput, match="is no readable checkpoint") as caught:
        WeightFile.read(path).tensors()
    assert "fetch the file again" in caught.value.fix
    torch.save({"state_dict": {"loss": np.float64(1.0)}}, path)
    with pytest.raises(MissingInput, match="holds no state dict"):
        WeightFile.read(path).tensors()
