"""Ten steps of our methods through the engine, held in float64 to the same steps by the authors' own code."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import torch
from torch import nn
from trajectories import CLASSES, FOLDER, STATISTICS, STEPS, Replay, Trajectory, batch, fingerprint, normal, start_value

from benchmark.models.registry import model
from benchmark.models.taps import Network

# By trajectory: our method, with the options that the source has.
METHODS: dict[str, object] = {
    "at": "at",
    "crd": {"crd": {"width": 16, "negatives": 12}},
    "diffkd_ae": {"diffkd": {"latent": 128}},
    "diffkd_ae_half": {"diffkd": {"latent": 32}},
    "diffkd_feature": {"diffkd": {"branches": ["feature"]}},
    "diffkd_logits": {"diffkd": {"branches": ["logits"]}},
    "diffkd_plain": "diffkd",
    "diffkd_plain_float32_first": "diffkd",
    "diffkd_plain_nesterov": "diffkd",
    "diffkd_plain_nfe1": {"diffkd": {"nfe": 1}},
    "diffkd_plain_nfe10": {"diffkd": {"nfe": 10}},
    "diffkd_plain_no_matching": {"diffkd": {"noise_matching": False}},
    "diffkd_plain_tau4": {"diffkd": {"logits_distance": {"kd": {"temperature": 4}}}},
    "diffkd_plain_weight2": {"diffkd": {"weight": 2}},
    "dist_repository": "dist",
    "dist_tau1": "dist",
    "dist_tau1_weight2": {"dist": {"weight": 2}},
    "dist_tau4_weight2": {"dist": {"tau": 4, "weight": 2}},
    "dkd": "dkd",
    "dkd_warmup": "dkd",
    "fitnet": "fitnet",
    "fitnet_probed": "fitnet",
    "fitnet_weight1": {"fitnet": {"weight": 1}},
    "kd_mdistiller": "kd",
    "kd_tau1": {"kd": {"temperature": 1, "weight": 1, "task_weight": 1}},
    "kd_tau4": {"kd": {"temperature": 4, "weight": 1, "task_weight": 0.9}},
    "mse": "mse",
    "none": "none",
    "none_nesterov": "none",
    "none_smoothing": "none",
    "ofd": "ofd",
    "ofd_float64_margins": "ofd",
    "ofd_teacher_train_mode": {"ofd": {"teacher": "train"}},
    "pkt": "pkt",
    "reviewkd": "reviewkd",
    "reviewkd_warmup": "reviewkd",
    "rkd": "rkd",
    "vid": "vid",
}
TOLERANCE = 1e-9  # relative
# Where the source rounds to float32 in between: OFD's margins, and DiffKD's noise levels in the first step.
ROUNDED = {"ofd": 1e-8, "diffkd_plain_float32_first": 1e-6}


@pytest.fixture(scope="module", autouse=True)
def in_float64() -> Iterator[None]:
    before = torch.get_default_dtype()
    torch.set_default_dtype(torch.float64)
    yield
    torch.set_default_dtype(before)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory, in_float64: None) -> Iterator[Path]:
    """Return a folder with the student's and the teacher's start weights. The program finds both networks."""
    folder = tmp_path_factory.mktemp("trajectories")
    (folder / "networks").mkdir()
    shutil.copy(Path(__file__).with_name("trajectory_networks.py"), folder / "networks")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("BENCHMARK_EXTRA", str(folder / "networks"))
        for owner in ("student", "teacher"):
            save(started(owner), folder / f"{owner}.pt")
        save(probed(started("teacher")), folder / "probed.pt")
        yield folder


def started(owner: str) -> nn.Module:
    """Build a network with its start weights."""
    network = model(f"trajectory_{owner}").build(CLASSES)
    with torch.no_grad():
        for name, tensor in network.state_dict().items():
            if tensor.ndim and (owner == "teacher" or not name.endswith(STATISTICS)):
                tensor.copy_(start_value(owner, name, tensor.shape))
    return network


def probed(network: nn.Module) -> nn.Module:
    """Move running statistics as mdistiller's FitNet does, which finds shapes by an image in train mode."""
    with torch.no_grad():
        network.train()(normal("probe", 1, 3, 16, 16))
    return network


def save(network: nn.Module, path: Path) -> None:
    torch.save(network.state_dict(), path)


def replay(name: str, folder: Path) -> Replay:
    """Return a trajectory ready for its first step."""
    found = Replay(Trajectory(name), METHODS[name], folder, teacher="probed" if name == "fitnet_probed" else "teacher")
    if name == "fitnet_probed":
        probed(found.student)
    return found


def test_the_start_is_the_source_s(folder: Path) -> None:
    common = json.loads((FOLDER / "common.json").read_text())
    replayed = replay("mse", folder)
    for owner, network in (("student", replayed.student), ("teacher", started("teacher"))):
        state = network.state_dict()
        for name, expected in common[owner].items():
            assert fingerprint(state[name]) == pytest.approx(expected, rel=1e-12, abs=1e-12), name
    teacher = replayed.parts.frozen
    assert isinstance(teacher, Network)
    for step, expected in enumerate(common["steps"], start=1):
        given = batch(step)
        teacher.bind(("pre_pool", "logits"))
        taught = replayed.parts.taught(given.inputs)
        assert given.targets.tolist() == expected["targets"]
        found = {"inputs": given.inputs, "teacher_logits": taught["logits"], "teacher_feature": taught["pre_pool"]}
        for name, tensor in found.items():
            assert fingerprint(tensor) == pytest.approx(expected[name], rel=1e-11, abs=1e-11), (step, name)


def test_every_trajectory_is_run() -> None:
    assert set(METHODS) == {path.stem for path in FOLDER.glob("*.json")} - {"common"}


@pytest.mark.parametrize("name", METHODS)
def test_ten_steps_are_the_authors(name: str, folder: Path) -> None:
    replayed = replay(name, folder)
    for step in range(1, STEPS + 1):
        replayed.take(step)
    deviation, place = replayed.worst()
    assert deviation < ROUNDED.get(name, TOLERANCE), place


def side_networks_do_not_decay(replayed: Replay) -> None:
    [group] = replayed.parts.optimizer.param_groups
    sides = set(replayed.method.parameters())
    group["params"] = [parameter for parameter in group["params"] if parameter not in sides]
    replayed.parts.optimizer.add_param_group({"params": list(sides), "weight_decay": 0.0})


def momentum_is_not_nesterov_s(replayed: Replay) -> None:
    for group in replayed.parts.optimizer.param_groups:
        group["nesterov"] = False


def statistics_do_not_follow_denoising(replayed: Replay) -> None:
    def choose(predictor: nn.Module, inputs: tuple[torch.Tensor, torch.Tensor | int]) -> None:
        for module in predictor.modules():
            if isinstance(module, nn.BatchNorm2d):
                module.track_running_stats = not isinstance(inputs[1], int)  # one timestep for all: denoising

    for _, branch in replayed.method.each_branch():
        branch.predictor.register_forward_pre_hook(choose)


def memory_is_not_updated(replayed: Replay) -> None:
    replayed.method._remember = lambda *seen: None


@pytest.mark.parametrize(
    ("name", "break_it"),
    [
        ("diffkd_plain", side_networks_do_not_decay),
        ("none_nesterov", momentum_is_not_nesterov_s),
        ("diffkd_plain", statistics_do_not_follow_denoising),
        ("crd", memory_is_not_updated),
    ],
)
def test_ten_steps_see_what_one_does_not(name: str, break_it: Callable[[Replay], None], folder: Path) -> None:
    replayed = replay(name, folder)
    break_it(replayed)
    for step in range(1, STEPS + 1):
        replayed.take(step)
    in_one_step, place = replayed.worst(1, losses_only=True)
    assert in_one_step < TOLERANCE, place
    in_ten, place = replayed.worst(STEPS)
    assert in_ten > 1e5 * TOLERANCE, place
