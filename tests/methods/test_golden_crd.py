from dataclasses import replace

import pytest
import torch
from draws import scripted
from golden_values import Golden, batch_of, built, moment_at, pair_of, total
from torch import Tensor

from benchmark.errors import CannotServe
from methods.crd import CRD

NAMES = {"embed_student.": "embed_s.linear.", "embed_teacher.": "embed_t.linear."}


def draws_for(golden: Golden, step: int) -> Tensor:
    """What must be drawn for the reference's negatives, when every sample is a class of its own."""
    samples = golden[f"sample_index_{step}"]
    positive, negatives = samples[:, :1], samples[:, 1:]
    assert (negatives != positive).all()
    return negatives - (negatives > positive).long()


def test_two_steps() -> None:
    golden = Golden("crd")
    meta = golden.meta
    sizes = {"negatives": meta["negatives"], "width": meta["feat_dim"]}
    options = CRD.Options(weight=1.0, temperature=meta["temperature"], momentum=meta["momentum"], **sizes)
    pair = pair_of({"embedding": (12,)}, {"embedding": (16,)}, dataset_size=meta["n_data"])
    method = built(CRD(options), replace(pair, labels=torch.arange(meta["n_data"])))
    golden.load_into(method, NAMES)
    method.memory_student.copy_(golden["memory_student_before"])
    method.memory_teacher.copy_(golden["memory_teacher_before"])
    for step in (1, 2):
        method.zero_grad()
        student = golden.leaf(f"student_feature_{step}")
        outputs = {"embedding": student}, {"embedding": golden[f"teacher_feature_{step}"]}
        batch = batch_of(4, indices=golden[f"index_{step}"])
        loss = total(method.losses(*outputs, batch, scripted(integers=[draws_for(golden, step)])))
        loss.backward()
        golden.check(loss, f"loss_{step}")
        golden.check(student.grad, f"grad_student_{step}")
        for network in ("student", "teacher"):
            golden.check(getattr(method, f"scale_{network}"), f"z_{network}_{step}")
            golden.check(getattr(method, f"memory_{network}"), f"memory_{network}_after_{step}")
        golden.check_gradients(method, NAMES, f"grad{step}__")


def small(labels: Tensor | None, **options: float) -> CRD:
    count = 6 if labels is None else len(labels)
    pair = replace(pair_of({"embedding": (3,)}, {"embedding": (4,)}, dataset_size=count), labels=labels)
    torch.manual_seed(0)
    method = CRD(CRD.Options(width=5, **options))
    method.build(pair)
    return method


def test_negatives_are_all_the_samples_of_other_classes_and_no_others() -> None:
    labels = torch.tensor([2, 0, 1, 0, 2, 2, 0])
    method = small(labels, negatives=8)
    memory = method.memory_teacher.clone()
    for index, label in enumerate(labels.tolist()):
        other = (labels != label).nonzero().flatten()
        draws = (torch.arange(8) % len(other)).unsqueeze(0)
        outputs = {"embedding": torch.randn(1, 3)}, {"embedding": torch.randn(1, 4)}
        method.memory_teacher.copy_(memory)
        method.memory_teacher[labels == label] = torch.nan
        method.memory_teacher[index] = memory[index]
        losses = method.losses(*outputs, batch_of(1, indices=torch.tensor([index])), scripted(integers=[draws]))
        assert torch.isfinite(losses.terms["student"])
        for sample in other.tolist():
            method.memory_teacher.copy_(memory)
            method.memory_teacher[sample] = torch.nan
            losses = method.losses(*outputs, batch_of(1, indices=torch.tensor([index])), scripted(integers=[draws]))
            assert torch.isnan(losses.terms["student"]), f"{sample} is never a negative of {index}"


def test_memories_and_constants_are_carried_by_a_checkpoint() -> None:
    labels = torch.tensor([0, 1, 0, 1, 0, 1])
    method, other = small(labels, negatives=4), small(labels, negatives=4)
    outputs = {"embedding": torch.randn(2, 3)}, {"embedding": torch.randn(2, 4)}
    batch = batch_of(2, indices=torch.tensor([1, 4]))
    method.losses(*outputs, batch, moment_at())
    other.load_state_dict(method.state_dict())
    found, again = (total(m.losses(*outputs, batch, moment_at())) for m in (method, other))
    assert float(method.scale_student) > 0
    torch.testing.assert_close(found, again, rtol=0, atol=0)


def test_what_cannot_be_contrasted_is_refused() -> None:
    with pytest.raises(CannotServe, match="labels of the training set are not known"):
        small(None)
    with pytest.raises(CannotServe, match="one class"):
        small(torch.zeros(6, dtype=torch.int64))


def test_what_other_ranks_saw_is_remembered_too() -> None:
    method = small(torch.tensor([0, 1, 0, 1, 0, 1]), negatives=4)
    theirs = torch.eye(5)[:2]

    def gather(mine: Tensor) -> Tensor:
        other = {torch.int64: torch.tensor([0, 5]), torch.float32: theirs if mine.dim() == 2 else mine}[mine.dtype]
        return torch.cat([mine, other])

    before = method.memory_student.clone()
    outputs = {"embedding": torch.randn(2, 3)}, {"embedding": torch.randn(2, 4)}
    method.losses(*outputs, batch_of(2, indices=torch.tensor([1, 4])), replace(moment_at(), gather=gather))
    moved = (method.memory_student != before).any(dim=1)
    assert moved.tolist() == [True, True, False, False, True, True]
    expected = torch.nn.functional.normalize((before[[0, 5]] + theirs) / 2, dim=1)
    torch.testing.assert_close(method.memory_student[[0, 5]], expected)


@pytest.mark.parametrize("replacement", [True, False])
def test_negatives_repeat_only_with_replacement(replacement: bool) -> None:
    labels = torch.arange(60) % 3  # 40 candidates for each sample
    method = small(labels, negatives=30, replacement=replacement)
    indices = torch.arange(12)
    candidates = method._candidates(indices, moment_at())
    assert candidates.shape == (12, 31)
    assert torch.equal(candidates[:, 0], indices)
    negatives = candidates[:, 1:]
    assert (labels[negatives] != labels[indices, None]).all()
    distinct = [len(set(row.tolist())) for row in negatives]
    assert (distinct == [30] * 12) == (not replacement)
    if not replacement:  # each candidate is drawn equally often
        counts, moment = torch.zeros(60), moment_at()
        for _ in range(40):
            drawn = method._candidates(indices[:1], moment)[0, 1:]
            counts[drawn] += 1
        assert counts[labels == 0].sum() == 0
        assert (counts[labels != 0] / 40 - 0.75).abs().max() < 0.3


def test_too_few_candidates_are_drawn_with_replacement() -> None:
    method = small(torch.tensor([0, 0, 0, 1, 2]), negatives=4, replacement=False)
    assert method._candidates(torch.tensor([0]), moment_at()).shape == (1, 5)
