"""Batch norms synchronised over GPUs compute in eval mode what the plain ones did, and nothing of a network is lost.

A synchronised norm trains on GPUs only. In eval mode it runs on a CPU too, where it can be compared.
"""

from __future__ import annotations

from collections.abc import Iterable
from copy import deepcopy
from pathlib import Path
from typing import Any

import pytest
import torch
from small import settings_in
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensorMode

from benchmark.data.random_images import noise
from benchmark.errors import CannotServe, UsageError
from benchmark.machine.ranks import Ranks
from benchmark.models.fold import fold_batch_norms
from benchmark.models.registry import model, models
from benchmark.models.taps import Adapter, Network, Tap
from benchmark.paper.recipe import recipe
from benchmark.plan.experiment import Run
from benchmark.train.classification.training import Training
from benchmark.train.engine.distiller import Distiller
from benchmark.train.engine.shards import synchronise, with_norms_for
from benchmark.verify.exported_students import experiment
from methods.base import Batch
from methods.kd import KD
from methods.registry import methods

A1 = recipe("A1").settings
TWO = Ranks(0, 2)
SIDES = {"cifar": 32, "imagenet": 64}
CLASSIFIERS = {
    name: 224 if family == "imagenet_swin" else SIDES[family.split("_")[0]]
    for name, family in ((name, entry.path.stem) for name, entry in models().items())
    if family.split("_")[0] in SIDES
}
# One network of each family and one method of each kind of side network; the others are slow together.
SOON = ("resnet8", "resnet8x4", "wrn_16_1", "vgg8", "MobileNetV2", "ShuffleV1", "ShuffleV2", "resnet18", "mobilenetv1")
SOON += ("mobilenet_v2", "mobilenetv2_100", "mobilenet_v3_large", "efficientnet_b0", "shufflenet_v1", "shufflenet_v2")
SOON += ("none", "fitnet", "ofd", "reviewkd", "srrl", "diffkd", "kdiffusion")


def norms(network: nn.Module) -> list[nn.Module]:
    return [module for module in network.modules() if isinstance(module, nn.modules.batchnorm._BatchNorm)]


def uneven(network: nn.Module) -> nn.Module:
    """The network in eval mode, its norms with statistics and weights that no fresh norm has."""
    for norm in norms(network):
        for tensor, low, high in ((norm.weight, 0.5, 1.5), (norm.running_var, 0.5, 1.5), (norm.bias, -0.3, 0.3)):
            nn.init.uniform_(tensor, low, high)  # type: ignore[arg-type]
        nn.init.normal_(norm.running_mean, std=0.1)  # type: ignore[arg-type]
    return network.eval()


def each(names: Iterable[str]) -> pytest.MarkDecorator:
    marked = [name if name in SOON else pytest.param(name, marks=pytest.mark.slow) for name in names]
    return pytest.mark.parametrize("name", marked)


@each(CLASSIFIERS)
def test_every_network_and_its_taps_give_the_same(name: str) -> None:
    torch.manual_seed(0)
    entry = model(name)
    network = uneven(entry.build(7))
    tapped = Network(network, entry.adapter(network), ["*"])
    images = torch.randn(2, 3, *[CLASSIFIERS[name]] * 2)
    plain, before = type(norms(network)[0]) if norms(network) else None, len(norms(network))
    state = {key: tensor.clone() for key, tensor in network.state_dict().items()}
    with torch.no_grad():
        expected = tapped(images)
        synchronise(tapped)
        tapped.bind(tapped.roles)
        found = tapped(images)
        folded = fold_batch_norms(network)(images)
    assert [role for role in expected if not torch.equal(found[role], expected[role])] == []
    torch.testing.assert_close(folded, expected["logits"])
    assert len(norms(network)) == before and all(isinstance(norm, nn.SyncBatchNorm) for norm in norms(network))
    assert all(torch.equal(tensor, state[key]) for key, tensor in network.state_dict().items())
    fresh = entry.build(7)
    fresh.load_state_dict(network.state_dict())
    assert plain is None or type(norms(fresh)[0]) is plain


def training(method: str, folder: Path) -> Training:
    """A run of a method on a small pair, ready for the first step."""
    path = folder / "teacher.pt"
    torch.manual_seed(0)
    torch.save(model("resnet14").build(100).state_dict(), path)
    run = Run(experiment(method, "resnet8", "resnet14", path, batch=8), 0)
    return Training(run, noise(8), settings_in(folder))


@each(methods())
def test_a_distiller_gives_the_same_losses_and_no_old_norm_is_left(
    name: str, workplace: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    try:
        parts = training(name, workplace).parts
    except CannotServe as reason:
        pytest.skip(reason.message)
    uneven(parts.distiller)
    images = torch.randn(8, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    batch = Batch(images, torch.arange(8), torch.arange(8))
    with torch.no_grad():
        taught = parts.frozen(images) if parts.frozen is not None else {}
    drawn = parts.moment.generator.get_state()
    twin = deepcopy(parts.distiller)
    expected = twin(batch, taught, parts.moment).terms
    parts.moment.generator.set_state(drawn)

    synchronise(parts.distiller)
    parts.distiller.student.bind(parts.distiller.student.roles)

    def left_behind(self: nn.Module, inputs: Tensor) -> Tensor:
        raise AssertionError("a norm was not replaced")

    for kind in (nn.BatchNorm1d, nn.BatchNorm2d):
        monkeypatch.setattr(kind, "forward", left_behind)
    found = parts.distiller(batch, taught, parts.moment).terms
    assert {term: value.item() for term, value in found.items()} == {t: v.item() for t, v in expected.items()}


def test_a_kdiffusion_run_is_exported_after_its_norms_were_synchronised(workplace: Path) -> None:
    run = training("kdiffusion", workplace)
    distiller = run.parts.distiller
    uneven(distiller)
    images = torch.randn(4, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    merged = distiller.method.merge(distiller.student.network).state_dict()
    with torch.no_grad():
        trained = distiller.student(images)["logits"]
        synchronise(distiller)
        assert isinstance(distiller.student.network.get_submodule("bn1"), nn.SyncBatchNorm)
        run.finish("done")
        exported = model("resnet8").build(100).eval()
        exported.load_state_dict(torch.load(run.books.paths.student, weights_only=True))
        torch.testing.assert_close(exported(images), trained, rtol=1e-4, atol=1e-5)
    assert {key for key, tensor in exported.state_dict().items() if not torch.equal(tensor, merged[key])} == set()


class Rectified(nn.BatchNorm2d):
    """A norm that does more than a norm."""

    def forward(self, inputs: Tensor) -> Tensor:
        return super().forward(inputs).relu()


def distiller(*layers: nn.Module) -> Distiller:
    network = layers[0] if len(layers) == 1 else nn.Sequential(*layers)
    return Distiller(
        Network(network, Adapter({"logits": Tap("")})), KD(), lambda outputs, batch: outputs["logits"].sum()
    )


def on_gpus(*layers: Any) -> Distiller:
    """What two GPUs would train, made without one."""
    with FakeTensorMode(), torch.device("cuda"):
        made = distiller(*(layer(3) for layer in layers))
        with_norms_for(made, A1, TWO, "paper")
    return made


def test_a_norm_of_an_unknown_class_is_refused() -> None:
    with pytest.raises(UsageError, match=r"^student\.network\.1 is a .*\.Rectified, a batch norm that") as caught:
        on_gpus(nn.BatchNorm2d, Rectified)
    assert "per_device_batch" in caught.value.fix


def test_a_network_that_is_a_norm_is_replaced_too() -> None:
    made = on_gpus(nn.BatchNorm2d)
    assert type(made.student.network) is nn.SyncBatchNorm
    assert dict(made.student.named_parameters()).keys() == {"network.weight", "network.bias"}


def test_norms_that_are_synchronised_stay_and_one_with_two_paths_stays_one() -> None:
    from timm.layers import BatchNormAct2d

    norm = nn.BatchNorm2d(3)
    network = nn.Sequential(norm, nn.ReLU(), norm, BatchNormAct2d(3))
    synchronise(network)
    assert network[0] is network[2]
    before = list(network)
    synchronise(network)
    assert all(again is module for again, module in zip(network, before, strict=True))


def test_where_a_part_is_stated_or_one_process_trains_norms_stay() -> None:
    stated = A1.model_copy(update={"per_device_batch": A1.batch // 2})
    for asked, ranks in ((stated, TWO), (A1, Ranks())):
        made = distiller(nn.Conv2d(3, 3, 1), Rectified(3))
        with_norms_for(made, asked, ranks, "paper")
        assert type(made.student.network.get_submodule("1")) is Rectified
