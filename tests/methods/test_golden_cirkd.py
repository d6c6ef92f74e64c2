from dataclasses import replace

import pytest
import torch
from draws import scripted
from golden_values import Golden, Shapes, batch_of, built, moment_at, pair_of, shapes_of, total
from torch import Tensor

from benchmark.errors import CannotServe
from methods.cirkd import CIRKD

NAMES = {"project.": "project_head."}
ALONE = {"pixel_weight": 0.0, "batch_weight": 0.0, "memory_pixel_weight": 0.0, "memory_region_weight": 0.0}


def features(golden: Golden) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    """The class scores are equal, so that pixel KD is zero."""
    scores = {"seg_logits": torch.zeros(3, 5, 4, 5, dtype=torch.float64)}
    student = {"seg_feature": golden.leaf("student_feature")} | scores
    return student, {"seg_feature": golden["teacher_feature"]} | scores


def sizes(golden: Golden) -> tuple[Shapes, Shapes]:
    student, teacher = features(golden)
    return shapes_of(student), shapes_of(teacher)


def places(order: Tensor, length: int) -> Tensor:
    """Draws that sorting brings into a given order: the first of `order` is the least."""
    draws = torch.arange(length)
    draws[order] = torch.arange(len(order))
    rest = torch.ones(length, dtype=torch.bool)
    rest[order] = False
    draws[rest] = torch.arange(len(order), length)
    return draws


def draws_for(golden: Golden) -> list[Tensor]:
    """Which pixels each image's classes give, then which rows of the two queues are drawn."""
    enqueue = torch.arange(20).repeat(3, 5, 1)
    for (image, label), order in zip(golden["enqueue_order"].tolist(), golden["enqueue_perm"], strict=True):
        enqueue[image, label] = places(order[order >= 0], 20)
    return [enqueue, places(golden["pixel_index"], 24), places(golden["region_index"], 12)]


def memory_method(golden: Golden, **weights: float) -> CIRKD:
    meta = golden.meta
    options = CIRKD.Options(
        **ALONE | weights,
        pixel_queue=meta["pixel_queue"],
        region_queue=meta["region_queue"],
        pixel_contrast=29,  # 29 // 5 + 1 = 6 of each class
        region_contrast=15,  # 4 of each
        temperature=meta["contrast_temperature"],
        enqueued=meta["pixels_enqueued_per_class_and_image"],
    )
    pair = pair_of(*sizes(golden), classes=5)
    method = built(CIRKD(options), pair)
    assert isinstance(method, CIRKD)
    golden.load_into(method, NAMES)
    for ours, theirs in {"pixel": "pixel", "region": "region"}.items():
        getattr(method, f"{ours}s").copy_(golden[f"{theirs}_queue_before"])
        getattr(method, f"{ours}_pointer").copy_(golden[f"{theirs}_ptr_before"])
    return method


def test_mini_batch() -> None:
    golden = Golden("cirkd_minibatch")
    student, teacher = features(golden)
    method = built(
        CIRKD(CIRKD.Options(**ALONE | {"batch_weight": 1.0}, together=3)),
        pair_of(shapes_of(student), shapes_of(teacher), 5),
    )
    losses = method.losses(student, teacher, batch_of(3, torch.zeros(3, 16, 20, dtype=torch.int64)), moment_at())
    total(losses).backward()
    golden.check(losses.terms["batch"], "loss")
    golden.check(student["seg_feature"].grad, "grad_student")


def test_each_devices_images_are_compared_among_themselves() -> None:
    golden = Golden("cirkd_minibatch")
    student, teacher = features(golden)
    method = built(CIRKD(CIRKD.Options(**ALONE | {"batch_weight": 1.0})), pair_of(*sizes(golden), classes=5))
    labels = torch.zeros(3, 16, 20, dtype=torch.int64)

    def term(images: slice) -> Tensor:
        parts = [{role: tensor[images] for role, tensor in outputs.items()} for outputs in (student, teacher)]
        batch = batch_of(len(labels[images]), labels[images])
        return method.losses(*parts, batch, moment_at()).terms["batch"]

    torch.testing.assert_close(term(slice(3)), (term(slice(2)) + term(slice(2, 3))) / 2)


@pytest.mark.parametrize("part", ["pixel", "region"])
def test_one_memory(part: str) -> None:
    golden = Golden("cirkd_memory")
    student, teacher = features(golden)
    method = memory_method(golden, **{f"memory_{part}_weight": 1.0})
    losses = method.losses(student, teacher, batch_of(3, golden["labels"]), scripted(integers=draws_for(golden)))
    total(losses).backward()
    golden.check(losses.terms[f"memory_{part}"], f"loss_{part}")
    golden.check(student["seg_feature"].grad, f"grad_student_feature_{part}")


def test_both_memories_and_their_queues() -> None:
    golden = Golden("cirkd_memory")
    student, teacher = features(golden)
    method = memory_method(golden, memory_pixel_weight=0.1, memory_region_weight=0.1)
    now = scripted(integers=draws_for(golden))
    total(method.losses(student, teacher, batch_of(3, golden["labels"]), now)).backward()
    assert now.is_used_up()
    golden.check(student["seg_feature"].grad, "grad_student_feature_total")
    golden.check_gradients(method, NAMES)
    for name in ("pixel", "region"):
        golden.check(getattr(method, f"{name}s"), f"{name}_queue_after")
        assert torch.equal(getattr(method, f"{name}_pointer"), golden[f"{name}_ptr_after"])


def small(**options: object) -> CIRKD:
    shapes = {"seg_feature": (4, 2, 2), "seg_logits": (3, 2, 2)}
    method = built(CIRKD(CIRKD.Options(pixel_queue=8, region_queue=4, **options)), pair_of(shapes, shapes, classes=3))
    assert isinstance(method, CIRKD)
    return method


def seen(method: CIRKD, labels: Tensor, **at: object) -> Tensor:
    """Runs one step of one image whose teacher has a direction of its own at each of four positions."""
    directions = torch.eye(4, dtype=torch.float64).view(1, 4, 2, 2)
    outputs = {"seg_feature": directions, "seg_logits": torch.zeros(1, 3, 2, 2, dtype=torch.float64)}
    method.losses(outputs, outputs, batch_of(1, labels.view(1, 2, 2)), replace(moment_at(), **at))
    return method.pixels


def test_pixels_of_a_class_are_its_own_where_that_is_asked_for() -> None:
    labels = torch.tensor([0, 2, 255, 2])
    own = seen(small(positions="class"), labels)[2, :2]
    assert {int(row.argmax()) for row in own} == {1, 3}
    first = seen(small(), labels)[2, :2]
    assert {int(row.argmax()) for row in first} == {0, 1}


def test_the_queue_holds_what_other_ranks_saw_too() -> None:
    method = small(positions="class")
    seen(method, torch.tensor([0, 0, 0, 0]), gather=lambda mine: torch.cat([mine, mine]))
    assert method.pixel_pointer.tolist() == [0, 0, 0]  # 4 + 4 fill the queue of 8, and it begins anew
    assert method.region_pointer.tolist() == [2, 0, 0]


def test_a_batch_without_labels_gives_no_memory_term_and_no_entry() -> None:
    method = small()
    before = method.pixels.clone()
    assert torch.equal(seen(method, torch.full((4,), 255)), before)


def test_maps_of_two_sizes_are_refused() -> None:
    with pytest.raises(CannotServe, match="not of one size"):
        CIRKD().build(pair_of({"seg_feature": (4, 8, 8)}, {"seg_feature": (4, 4, 4)}))


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_similarities_are_taken_in_float32_under_autocast(dtype: torch.dtype) -> None:
    """At a temperature of a tenth half the digits would not do; the features themselves may be of half precision."""
    draw = torch.Generator().manual_seed(0)
    maps = [{"seg_feature": torch.randn(2, 6, 4, 5, generator=draw).to(dtype)} for _ in range(2)]
    scores = {"seg_logits": torch.zeros(2, 3, 4, 5)}
    student, teacher = ({**found, **scores} for found in maps)
    method = CIRKD(CIRKD.Options(pixel_queue=16, region_queue=8, pixel_contrast=12, region_contrast=6))
    method.build(pair_of(shapes_of(student), shapes_of(teacher), classes=3))
    method.project = torch.nn.Sequential()  # whose convolutions are in half precision by right
    labels = torch.randint(3, (2, 4, 5), generator=draw)

    def terms(student: dict[str, Tensor], teacher: dict[str, Tensor]) -> dict[str, Tensor]:
        kept = {name: tensor.clone() for name, tensor in method.state_dict().items()}
        found = method.losses(student, teacher, batch_of(2, labels), moment_at()).terms
        method.load_state_dict(kept)
        return dict(found)

    whole = [{role: tensor.float() for role, tensor in found.items()} for found in (student, teacher)]
    expected = terms(*whole)
    with torch.autocast("cpu", dtype=dtype):
        found = terms(student, teacher)
    for name in ("batch", "memory_pixel", "memory_region"):
        assert found[name].dtype == torch.float32 and float(expected[name]) > 0
        torch.testing.assert_close(found[name], expected[name])
