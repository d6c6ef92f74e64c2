from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from golden_values import batch_of, moment_at
from pairs import Setup, setup, tiny_network
from small import data_of, plan_of, settings_in, write_suite
from torch import Tensor, nn

from benchmark.errors import CannotServe
from benchmark.models import counting
from benchmark.models.registry import model
from benchmark.models.taps import Adapter, Network, Tap
from benchmark.train.classification.training import Training
from benchmark.train.engine.distiller import trained_student
from benchmark.train.settings import Stopped
from benchmark.train.trainer import record_from
from benchmark.verify import method_cost
from methods.base import Pair
from methods.kdiffusion.kdiffusion import KDiffusion
from methods.spec import MethodSpec

STUDENTS = ("ShuffleV1", "ShuffleV2", "MobileNetV2", "resnet8", "vgg8", "wrn_16_1")
SINGLE = {"layers": "single", "target_guidance": False}


def built(where: Setup, **options: Any) -> KDiffusion:
    method = where.build(KDiffusion(KDiffusion.Options(**options)))
    where.wrap(method)
    assert isinstance(method, KDiffusion)
    return method


def terms(where: Setup, method: KDiffusion) -> dict[str, float]:
    losses = method.losses(*where.outputs(), where.batch, moment_at())
    return {name: float(term.detach()) for name, term in losses.terms.items()}


def same_widths(branches: int = 4, **options: Any) -> tuple[KDiffusion, dict[str, Tensor], dict[str, Tensor]]:
    """A method without a bridge, a student whose features all equal the teacher's, and the teacher."""
    network = tiny_network((4, 5, 6, 7), stem_stride=2)
    images = torch.randn(3, 3, 16, 16, generator=torch.Generator().manual_seed(0))
    shapes = network.shapes(images)
    method = KDiffusion(KDiffusion.Options(bridge="none", branches=branches, **options))
    method.build(Pair(network, network, shapes, shapes, 10, 50))
    method.double()
    with torch.no_grad():
        teacher = {role: tensor.double() for role, tensor in network(images).items()}
    student = {f"branches.{role}": teacher[role].repeat(1, branches, 1, 1) for role in method.levels}
    return method, student, teacher


# The four variants


def test_each_variant_has_its_terms() -> None:
    stages = ["stage3", "stage2", "stage1"]
    variants: list[tuple[dict[str, Any], list[str]]] = [
        ({"objective": "average", **SINGLE}, ["stage3.average"]),
        (SINGLE, ["stage3.diffusion"]),
        ({"target_guidance": False}, [f"{role}.diffusion" for role in stages]),
        ({}, [f"{role}.{term}" for role in stages for term in ("diffusion", "guidance")]),
    ]
    for options, names in variants:
        where = setup("equal")
        method = built(where, **options)
        assert list(terms(where, method)) == names
        assert method.taps == (("stage[3]",) if "layers" in options else ("stage[0-9]",))


def test_the_average_is_the_plain_distance_of_the_mean_and_draws_nothing() -> None:
    where = setup("equal")
    method = built(where, objective="average", bridge="linear", weight=2.0, **SINGLE)
    student, teacher = where.outputs()
    features = student["branches.stage3"].view(8, 4, 16, 4, 4)
    bridge = method.levels["stage3"].bridge
    bridged = bridge(features.transpose(0, 1).reshape(32, 16, 4, 4)).view(4, 8, 32, 4, 4)
    moment = moment_at()
    before = moment.generator.get_state()
    found = method.losses(student, teacher, where.batch, moment).terms["stage3.average"]
    torch.testing.assert_close(found, 2 * (bridged.mean(dim=0) - teacher["stage3"]).square().mean())
    assert torch.equal(moment.generator.get_state(), before)


# The objective


@pytest.mark.parametrize("schedule", ["cosine", "linear"])
def test_only_renoised_estimates_vanish_where_every_feature_is_the_teachers(schedule: Any) -> None:
    for estimate in ("renoised", "mean", "sample"):
        method, student, teacher = same_widths(schedule=schedule, estimate=estimate)
        losses = method.losses(student, teacher, batch_of(3), moment_at()).terms
        at_teacher = max(float(loss.detach()) for loss in losses.values())
        assert (at_teacher < 1e-20) == (estimate == "renoised")


def test_one_branch_is_the_plain_distance() -> None:
    where = setup("equal")
    diffusion = terms(where, built(where, branches=1, **SINGLE))["stage3.diffusion"]
    again = setup("equal")
    average = terms(again, built(again, branches=1, objective="average", **SINGLE))["stage3.average"]
    assert diffusion == pytest.approx(average, rel=1e-6)


def test_shuffling_gives_every_branch_every_step() -> None:
    for shuffle, orders in ((True, 24), (False, 1)):  # four branches
        where = setup("equal")
        method = built(where, shuffle=shuffle, **SINGLE)
        outputs, moment = where.outputs(), moment_at()
        method.eval()  # running statistics alone decide: nothing but the order changes
        losses = [method.losses(*outputs, where.batch, moment).terms["stage3.diffusion"] for _ in range(200)]
        assert len({float(loss.detach()) for loss in losses}) == orders


def test_noise_gradient_changes_gradients_and_not_values() -> None:
    values, gradients = [], []
    for flows in (False, True):
        method, student, teacher = same_widths(noise_gradient=flows, shuffle=False, **SINGLE)
        feature = (student["branches.stage3"] + 0.5).requires_grad_()
        loss = method.losses({"branches.stage3": feature}, teacher, batch_of(3), moment_at()).terms["stage3.diffusion"]
        loss.backward()
        assert feature.grad is not None
        values.append(float(loss.detach()))
        gradients.append(feature.grad.view(3, 4, 7, -1).sum(dim=(0, 2, 3)))
    assert values[0] > 0
    assert values[0] == pytest.approx(values[1])
    assert not torch.isclose(gradients[0][0], gradients[1][0])  # the feature that is the noise
    torch.testing.assert_close(gradients[0][1:], gradients[1][1:])


def test_the_guidance_is_the_teachers_next_layer() -> None:
    where = setup("equal")
    method = built(where)
    teacher = where.pair.teacher.network
    for role, path in (("stage1", "stages.1.conv"), ("stage2", "stages.2.conv"), ("stage3", "classifier")):
        assert torch.equal(method.levels[role].reader.weight, teacher.get_submodule(path).weight)


def test_maps_of_unequal_size_meet_as_the_option_says() -> None:
    found = {}
    for how in ("pool", "interpolate"):
        where = setup("unequal")
        found[how] = terms(where, built(where, resize=how, **SINGLE))["stage3.diffusion"]
    assert found["pool"] != found["interpolate"]


# The branches


def test_the_student_goes_on_with_the_average_of_its_branches() -> None:
    where = setup("equal")
    built(where)
    student, _ = where.outputs()
    for role in ("stage1", "stage2", "stage3"):
        stacked = student[f"branches.{role}"]
        average = torch.stack(stacked.chunk(4, dim=1)).mean(dim=0)
        torch.testing.assert_close(student[f"{role}.preact"], average)


def test_branches_start_apart_or_as_copies() -> None:
    for initial in ("independent", "copies"):
        where = setup("equal")
        built(where, initial=initial)
        first, *others = where.outputs()[0]["branches.stage3"].detach().chunk(4, dim=1)
        # Two stages before this one are averages of copies, which are what they would have been.
        plain = where.pair.student(where.batch.inputs)["stage3.preact"].detach()
        assert torch.allclose(first, plain, atol=1e-5) == (initial == "copies")
        assert all(torch.equal(first, other) for other in others) == (initial == "copies")
        spreads = [float(each.std()) for each in others]
        assert spreads == pytest.approx([float(first.std())] * 3, rel=0.05)  # behind a batch norm


def test_the_average_has_the_variance_of_equation_15() -> None:
    """Independent branches behind a batch norm have variance one, their mean one m-th of it."""
    where = setup("equal")
    built(where, branches=8, **SINGLE)
    student = {role: tensor.detach() for role, tensor in where.outputs()[0].items()}
    assert float(student["branches.stage3"].var()) == pytest.approx(1, rel=0.02)
    assert float(student["stage3.preact"].var()) == pytest.approx(1 / 8, rel=0.35)


def pair_with(student: str, classes: int = 10) -> tuple[Pair, Tensor]:
    images = torch.randn(2, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    networks = []
    for name in (student, "resnet8"):
        plain = model(name).build(classes)
        networks.append(Network(plain, model(name).adapter(plain), ("*",)))
    shapes = [network.shapes(images) for network in networks]
    return Pair(networks[0], networks[1], shapes[0], shapes[1], classes, 50), images


def disturb(network: nn.Module) -> None:
    """Nothing at a special value, as after training."""
    generator = torch.Generator().manual_seed(1)
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d):
            assert module.running_mean is not None and module.running_var is not None
            with torch.no_grad():
                for tensor, low in ((module.weight, 0.5), (module.running_var, 0.5), (module.bias, -0.5)):
                    tensor.copy_(low + torch.rand(tensor.shape, generator=generator))
                module.running_mean.copy_(torch.randn(module.running_mean.shape, generator=generator) / 4)


@pytest.mark.parametrize("name", STUDENTS)
def test_a_merged_student_costs_what_the_plain_one_does_and_computes_what_the_branches_did(name: str) -> None:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        pair, images = pair_with(name)
        method = KDiffusion(KDiffusion.Options(branches=2))
        method.build(pair)
    wrapped = trained_student(method.wrap_student(pair.student.network), pair.student.adapter, method)
    disturb(wrapped)
    merged, plain = method.merge(wrapped.network), model(name).build(10)
    shape = (1, 3, 32, 32)
    assert counting.parameters(merged) == counting.parameters(plain) < counting.parameters(wrapped.network)
    assert counting.macs(merged, shape) == counting.macs(plain, shape) < counting.macs(wrapped.network, shape)
    plain.load_state_dict(merged.state_dict())
    with torch.no_grad():
        expected = wrapped.eval()(images)["logits"]
        found = plain.eval()(images)
    assert float((found - expected).abs().max()) <= 1e-5 * max(1.0, float(expected.abs().max()))


def test_merging_in_double_precision_is_exact() -> None:
    where = setup("equal")
    method = built(where)
    disturb(where.student)
    trained = where.student.network.double().eval()
    inputs = where.batch.inputs.double()
    merged = method.merge(trained)
    torch.testing.assert_close(merged(inputs), trained(inputs), rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("name", ["ShuffleV1", "ShuffleV2", "MobileNetV2"])
def test_the_multiplied_convolution_is_the_one_that_closes_the_stage(name: str) -> None:
    pair = method_cost.pair_on_meta(name, "resnet8", "cifar100")
    method = KDiffusion(KDiffusion.Options(**SINGLE))
    method_cost.build_on_meta(method, pair)
    closing = {"ShuffleV1": "layer3.3.conv3", "ShuffleV2": "layer3.3.conv3", "MobileNetV2": "blocks.6.0.conv.6"}
    [added] = method.added_roles().values()
    assert added.tap.module == closing[name]


def test_networks_of_unequal_depth_meet_at_the_deepest_stage() -> None:
    pair = method_cost.pair_on_meta("MobileNetV2", "resnet8", "cifar100")  # four stages and three
    multiple, single = KDiffusion(), KDiffusion(KDiffusion.Options(**SINGLE))
    for method in (multiple, single):
        method_cost.build_on_meta(method, pair)
    met = {role: level.teacher_role for role, level in multiple.levels.items()}
    assert met == {"stage4": "stage3", "stage3": "stage2", "stage2": "stage1"}
    assert {role: level.teacher_role for role, level in single.levels.items()} == {"stage4": "stage3"}
    assert single.taps == ("stage[34]",)


def test_branches_are_counted_in_the_methods_cost() -> None:
    pair = method_cost.pair_on_meta("ShuffleV2", "resnet8", "cifar100")
    found = []
    for branches in (2, 4):
        method = KDiffusion(KDiffusion.Options(branches=branches, **SINGLE))
        found.append(method_cost.method_cost(method_cost.build_on_meta(method, pair), pair, batch=4).forward)
    assert found[1] == 2 * found[0] == 4 * 232 * 64 * 4 * 4  # the bridge, once a branch


# Pairs that cannot be served


class Odd(nn.Module):
    """Two stages without a batch norm behind a convolution, and a classifier of all positions."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = nn.Conv2d(3, 4, 3, 2), nn.Conv2d(4, 8, 3, 2)
        self.classifier = nn.Linear(8 * 3 * 3, 10)

    def forward(self, inputs: Tensor) -> Tensor:
        out: Tensor = self.classifier(self.second(self.first(inputs)).flatten(1))
        return out


def odd_pair(odd: str, **of_adapter: Any) -> Pair:
    where = setup("equal").pair
    taps = {"stage1": Tap("first"), "stage2": Tap("second"), "logits": Tap("classifier")}
    network = Network(Odd(), Adapter(taps, classifier="classifier", **of_adapter), taps)
    shapes = {"stage1": (4, 7, 7), "stage2": (8, 3, 3), "logits": (10,)}
    if odd == "student":
        return Pair(network, where.teacher, shapes, where.teacher_shapes, 10, 50)
    return Pair(where.student, network, where.student_shapes, shapes, 10, 50)


def test_a_student_without_a_batch_norm_behind_a_convolution_is_refused() -> None:
    with pytest.raises(CannotServe, match="in stage2 no batch norm follows a convolution"):
        KDiffusion().build(odd_pair("student"))


def test_a_student_with_a_forward_pass_of_its_own_is_refused() -> None:
    with pytest.raises(CannotServe, match="forward pass of its own"):
        KDiffusion().build(odd_pair("student", forward=lambda network, inputs: {}))


def test_a_next_layer_that_reads_something_else_is_refused_where_it_is_asked() -> None:
    with pytest.raises(CannotServe, match="classifier behind stage2 reads 72 channels and not its 8"):
        KDiffusion().build(odd_pair("teacher"))
    KDiffusion(KDiffusion.Options(target_guidance=False)).build(odd_pair("teacher"))


def test_unequal_channels_need_a_bridge() -> None:
    with pytest.raises(CannotServe, match="stage3 has 16 channels, the teacher's stage3 32"):
        setup("equal").build(KDiffusion(KDiffusion.Options(bridge="none")))


# In a sum, and in a run


def test_it_can_be_one_of_a_sum() -> None:
    where = setup("equal")
    method = where.build(MethodSpec.parse("kd+kdiffusion").make())
    where.wrap(method)
    names = list(method.losses(*where.outputs(), where.batch, moment_at()).terms)
    assert names[:2] == ["kd.kd", "kdiffusion.stage3.diffusion"]
    plain = method.merge(where.student.network)
    assert plain.state_dict().keys() == where.pair.student.network.state_dict().keys()


def test_a_run_that_is_stopped_ends_as_one_that_is_not_and_exports_the_plain_student(workplace: Path) -> None:
    rows = {"KDiffusion": {"method": "kdiffusion"}}
    teacher = workplace / "teacher.pt"
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        torch.save(model("resnet14").build(100).state_dict(), teacher)
    setting = {"teacher": {"model": "resnet14", "weights": str(teacher)}}
    profile = {"epochs": 1, "train": 100, "test": 100, "batch": 50}
    suite = write_suite(workplace / "kdiffusion.yaml", rows, setting, profile)
    [run] = [run for run in plan_of(suite).runs if run.experiment.method.name == "kdiffusion"]
    exported = []
    for folder in (workplace / "through", workplace / "stopped"):
        settings = settings_in(folder)
        training = Training(run, data_of(run.experiment, settings), settings)
        if folder.name == "stopped":
            settings.stop.set()
            with pytest.raises(Stopped):
                record_from(training.advancing())
            settings.stop.clear()
            training = Training(run, data_of(run.experiment, settings), settings)
        record_from(training.advancing())
        exported.append(torch.load(settings.store.paths(run).student, weights_only=True))
    assert all(torch.equal(tensor, exported[1][name]) for name, tensor in exported[0].items())
    model("resnet8").build(100).load_state_dict(exported[0])
