import pytest
import torch
from golden_values import Golden, batch_of, built, moment_at, pair_of, shapes_of, total
from torch import Tensor, nn

from benchmark.errors import CannotServe
from methods.ofd import OFD


def norms_of(golden: Golden, count: int) -> dict[str, nn.Module]:
    norms = {}
    for i in range(count):
        norm = nn.BatchNorm2d(len(golden[f"teacher_bn_weight_{i}"])).double()
        with torch.no_grad():
            norm.weight.copy_(golden[f"teacher_bn_weight_{i}"])
            norm.bias.copy_(golden[f"teacher_bn_bias_{i}"])
        norms[f"stage{i + 1}.preact"] = norm
    return norms


def case(name: str, count: int) -> tuple[Golden, OFD, dict[str, Tensor], dict[str, Tensor]]:
    golden = Golden(name)
    student = {f"stage{i + 1}.preact": golden.leaf(f"student_{i}") for i in range(count)}
    teacher = {f"stage{i + 1}.preact": golden[f"teacher_{i}"] for i in range(count)}
    pair = pair_of(shapes_of(student), shapes_of(teacher), norms=norms_of(golden, count))
    return golden, built(OFD(OFD.Options(weight=1.0)), pair), student, teacher


@pytest.mark.parametrize(("name", "count"), [("ofd", 3), ("ofd_pooled", 2)])
def test_loss_gradients_and_margins(name: str, count: int) -> None:
    golden, method, student, teacher = case(name, count)
    # Ours are listed deepest first.
    names = {f"connectors.{i}.connect.": f"connectors.{count - 1 - i}." for i in range(count)}
    golden.load_into(method, names)
    loss = total(method.losses(student, teacher, batch_of(4), moment_at()))
    loss.backward()
    golden.check(loss, "loss")
    for i in range(count):
        golden.check(method.connectors[count - 1 - i].margin.flatten(), f"margin_{i}")
        golden.check(student[f"stage{i + 1}.preact"].grad, f"grad_student_{i}")
    golden.check_gradients(method, names)


def test_unequal_counts_match_the_deepest_with_their_own_margins() -> None:
    teacher = {f"stage{i}.preact": (i, 4, 4) for i in (1, 2, 3)}
    norms = {f"stage{i}.preact": nn.BatchNorm2d(i) for i in (1, 2, 3)}
    method = OFD()
    method.build(pair_of({"stage1.preact": (5, 4, 4), "stage2.preact": (6, 4, 4)}, teacher, norms=norms))
    assert method.levels == [("stage2.preact", "stage3.preact"), ("stage1.preact", "stage2.preact")]
    assert [connector.margin.shape[1] for connector in method.connectors] == [3, 2]


def test_margins_far_from_zero_are_three_deviations_down() -> None:
    norm = nn.BatchNorm2d(2)
    with torch.no_grad():
        norm.weight.copy_(torch.tensor([-1.0, 0.5]))
        norm.bias.copy_(torch.tensor([5.0, 5.0]))
    shapes = {"stage1.preact": (2, 4, 4)}
    method = OFD()
    method.build(pair_of(shapes, shapes, norms={"stage1.preact": norm}))
    torch.testing.assert_close(method.connectors[0].margin.flatten(), torch.tensor([-3.0, -1.5]))


def test_a_teacher_without_batch_norms_is_refused() -> None:
    shapes = {"stage1.preact": (2, 4, 4)}
    with pytest.raises(CannotServe, match=r"no batch norm behind stage1\.preact"):
        OFD().build(pair_of(shapes, shapes))
