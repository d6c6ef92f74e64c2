"""Methods against second implementations that go sample by sample in python floats, on random inputs."""

from __future__ import annotations

import importlib.util
from dataclasses import replace
from pathlib import Path
from types import ModuleType

import pytest
import torch
from draws import scripted
from golden_values import batch_of, built, moment_at, pair_of, shapes_of, total
from torch import Tensor, nn
from torch.nn import functional as F

from methods.at import AT
from methods.base import Method
from methods.crd import CRD
from methods.ofd import OFD
from methods.pkt import PKT
from methods.rkd import RKD
from methods.srrl import SRRL
from methods.vid import VID


def reference(name: str) -> ModuleType:
    path = Path(__file__).parents[1] / "reference" / f"{name}.py"
    spec = importlib.util.spec_from_file_location(f"reference_{name}", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(params=range(3))
def draw(request: pytest.FixtureRequest) -> torch.Generator:
    return torch.Generator().manual_seed(request.param)


def normal(draw: torch.Generator, *shape: int) -> Tensor:
    return torch.randn(*shape, generator=draw, dtype=torch.float64)


def check(found: Tensor, expected: float, rtol: float = 1e-9) -> None:
    assert float(found.detach()) == pytest.approx(expected, rel=rtol, abs=1e-13)


def randomise(method: Method, draw: torch.Generator) -> None:
    """Nothing at a special value: batch norms start at one and zero."""
    with torch.no_grad():
        for parameter in method.parameters():
            parameter.copy_(normal(draw, *parameter.shape))


@pytest.mark.parametrize("squared", [False, True])
def test_rkd(draw: torch.Generator, squared: bool) -> None:
    student, teacher = normal(draw, 5, 4), 3 * normal(draw, 5, 6)
    outputs = {"embedding": student}, {"embedding": teacher}
    terms = RKD(RKD.Options(squared=squared)).losses(*outputs, batch_of(5), moment_at()).terms
    distance, angle = reference("rkd").loss(student, teacher, squared)
    check(terms["distance"], 25 * distance)
    check(terms["angle"], 50 * angle)


def test_pkt(draw: torch.Generator) -> None:
    student, teacher = normal(draw, 6, 4), 3 * normal(draw, 6, 5)
    outputs = {"embedding": student}, {"embedding": teacher}
    found = total(PKT().losses(*outputs, batch_of(6), moment_at()))
    check(found, 30000 * reference("pkt").loss(student, teacher))


@pytest.mark.parametrize("p", [1.0, 2.0, 3.5])
def test_at(draw: torch.Generator, p: float) -> None:
    student, teacher = normal(draw, 2, 3, 4, 2), normal(draw, 2, 5, 4, 2)
    check(AT(AT.Options(p=p)).distance(student, teacher, batch_of(2)), reference("at").loss(student, teacher, p))


def test_vid(draw: torch.Generator) -> None:
    student, teacher = {"stage1": normal(draw, 2, 3, 4, 2)}, {"stage1": normal(draw, 2, 5, 4, 2)}
    method = built(VID(VID.Options(weight=0.5)), pair_of(shapes_of(student), shapes_of(teacher)))
    randomise(method, draw)
    regressor = method.regressors[0]
    weights = [regressor.mean[i].weight for i in (0, 2, 4)]
    expected = reference("vid").loss(student["stage1"], teacher["stage1"], weights, regressor.log_scale)
    check(total(method.losses(student, teacher, batch_of(2), moment_at())), 0.5 * expected)


def connected(maps: Tensor, block: nn.Sequential) -> Tensor:
    weights = (block[0].weight, block[1].weight, block[1].bias)
    found: Tensor = reference("connector").connected(maps, *(weight.detach() for weight in weights))
    return found


def test_srrl(draw: torch.Generator) -> None:
    student = {"pre_pool": normal(draw, 2, 3, 4, 2)}
    teacher = {"pre_pool": normal(draw, 2, 5, 2, 2), "logits": normal(draw, 2, 4)}
    classifier = nn.Linear(5, 4).double().requires_grad_(False)
    method = built(SRRL(), pair_of(shapes_of(student), shapes_of(teacher), classifier=classifier))
    randomise(method, draw)
    terms = method.losses(student, teacher, batch_of(2), moment_at()).terms
    after = F.relu(connected(student["pre_pool"], method.connector))
    feature, regression = reference("srrl").loss(after, *teacher.values(), classifier.weight, classifier.bias)
    check(terms["feature"], feature)
    check(terms["regression"], regression)


def test_ofd(draw: torch.Generator) -> None:
    shapes = {"stage1.preact": (3, 4, 4), "stage2.preact": (4, 2, 2)}
    student = {role: normal(draw, 2, *shape) for role, shape in shapes.items()}
    teacher = {role: normal(draw, 2, 5, *shape[1:]) for role, shape in shapes.items()}
    norms = {role: nn.BatchNorm2d(5).double() for role in shapes}
    for norm in norms.values():
        nn.init.normal_(norm.weight, generator=draw)
        nn.init.normal_(norm.bias, generator=draw)
    method = built(OFD(OFD.Options(weight=1.0)), pair_of(shapes, shapes_of(teacher), norms=norms))
    randomise(method, draw)
    plain = reference("ofd")
    margins = [
        [plain.margin(*pair) for pair in zip(n.weight.tolist(), n.bias.tolist(), strict=True)] for n in norms.values()
    ]
    blocks = [connector.connect for connector in reversed(method.connectors)]
    after = [connected(maps, block) for maps, block in zip(student.values(), blocks, strict=True)]
    expected = plain.loss(after, list(teacher.values()), margins)
    check(total(method.losses(student, teacher, batch_of(2), moment_at())), expected, rtol=1e-8)


def test_crd_over_three_steps(draw: torch.Generator) -> None:
    samples, negatives = 9, 7
    pair = replace(
        pair_of({"embedding": (3,)}, {"embedding": (4,)}, dataset_size=samples), labels=torch.arange(samples)
    )
    method = built(CRD(CRD.Options(width=5, negatives=negatives, momentum=0.3, temperature=0.2)), pair)
    plain = reference("crd")
    banks = {name: plain.Bank(getattr(method, f"memory_{name}"), 0.2) for name in ("student", "teacher")}
    for step in range(3):
        features = {"student": normal(draw, 2, 3), "teacher": normal(draw, 2, 4)}
        indices = torch.tensor([step, step + 4])
        draws = torch.randint(samples - 1, (2, negatives), generator=draw)
        outputs = ({"embedding": features[name]} for name in ("student", "teacher"))
        losses = method.losses(*outputs, batch_of(2, indices=indices), scripted(integers=[draws]))
        drawn = [
            [index, *(d + (d >= index) for d in line)]
            for index, line in zip(indices.tolist(), draws.tolist(), strict=True)
        ]
        embeds = {"student": method.embed_student, "teacher": method.embed_teacher}
        vectors = {
            name: [plain.embedded(feature, embeds[name].weight, embeds[name].bias) for feature in features[name]]
            for name in features
        }
        check(losses.terms["student"], 0.8 * banks["teacher"].loss(vectors["student"], drawn))
        check(losses.terms["teacher"], 0.8 * banks["student"].loss(vectors["teacher"], drawn))
        for name, bank in banks.items():
            bank.remember(vectors[name], indices.tolist(), 0.3)
