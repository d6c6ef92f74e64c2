import pytest
import torch
from golden_values import Golden, batch_of, built, moment_at, pair_of, shapes_of, total
from torch import Tensor

from benchmark.errors import CannotServe
from methods.base import Pair
from methods.reviewkd import ReviewKD

# Our name to the reference's, block by block; the deepest has no attention.
NAMES = {
    f"blocks.{i}.{ours}": f"abfs.{i}.{theirs}"
    for i in range(4)
    for ours, theirs in {"reduce.": "conv1.", "attend.": "att_conv.0.", "expand.": "conv2."}.items()
}


def golden_outputs(golden: Golden) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    student = {f"stage{i + 1}": golden.leaf(f"student_{i}") for i in range(3)}
    teacher = {f"stage{i + 1}.preact": golden[f"teacher_{i}"] for i in range(3)}
    # The teacher's stages after activation are tapped too, and must not be used.
    teacher |= {f"stage{i + 1}": torch.full_like(golden[f"teacher_{i}"], torch.nan) for i in range(3)}
    return student | {"embedding": golden.leaf("student_pooled")}, teacher | {"embedding": golden["teacher_pooled"]}


@pytest.mark.parametrize("name", ["reviewkd_full", "reviewkd_full_hetero"])
def test_loss_and_gradients(name: str) -> None:
    golden = Golden(name)
    student, teacher = golden_outputs(golden)
    method = built(ReviewKD(ReviewKD.Options(weight=1.0)), pair_of(shapes_of(student), shapes_of(teacher)))
    golden.load_into(method, NAMES)
    loss = total(method.losses(student, teacher, batch_of(2), moment_at()))
    loss.backward()
    golden.check(loss, "loss")
    for i in range(3):
        golden.check(student[f"stage{i + 1}"].grad, f"grad_student_{i}")
    golden.check(student["embedding"].grad, "grad_student_pooled")
    golden.check_gradients(method, NAMES)


def test_the_distance_is_the_hierarchical_context_loss() -> None:
    golden = Golden("reviewkd_hcl")
    students = [golden.leaf(f"student_{i}") for i in range(3)]
    method = ReviewKD()
    loss = torch.stack([method.distance(s, golden[f"teacher_{i}"], batch_of(8)) for i, s in enumerate(students)]).sum()
    loss.backward()
    golden.check(loss, "loss")
    for i, student in enumerate(students):
        golden.check(student.grad, f"grad_student_{i}")


@pytest.mark.parametrize(
    ("epoch", "first", "epochs", "factor"),
    [(0, 1, 20, 0.05), (0, 0, 20, 0.0), (9, 1, 20, 0.5), (10, 0, 20, 0.5), (19, 1, 20, 1.0), (0, 0, 0, 1.0)],
)
def test_warm_up(epoch: int, first: int, epochs: int, factor: float) -> None:
    golden = Golden("reviewkd_full")
    student, teacher = golden_outputs(golden)
    options = ReviewKD.Options(weight=2.0, warmup_epochs=epochs, first_epoch=first)
    method = built(ReviewKD(options), pair_of(shapes_of(student), shapes_of(teacher)))
    golden.load_into(method, NAMES)
    loss = total(method.losses(student, teacher, batch_of(2), moment_at(epoch)))
    torch.testing.assert_close(loss.detach(), 2 * factor * golden["loss"], rtol=1e-6, atol=1e-12)


def shapes(stages: str, embedding: int, preact: bool = True) -> dict[str, tuple[int, ...]]:
    """Tap shapes from `channels x side` of each stage, as the families list them."""
    sizes = [tuple(map(int, stage.split("x"))) for stage in stages.split()]
    maps = {f"stage{i}": (channels, side, side) for i, (channels, side) in enumerate(sizes, 1)}
    before = {f"{role}.preact": shape for role, shape in maps.items()} if preact else {}
    return maps | before | {"embedding": (embedding,)}


RESNET = shapes("16x32 32x16 64x8", 64)
RESNET_X4 = shapes("64x32 128x16 256x8", 256)
WRN_1, WRN_2 = shapes("16x32 32x16 64x8", 64), shapes("32x32 64x16 128x8", 128)
RESNET50 = shapes("256x32 512x16 1024x8 2048x4", 2048)
VGG = shapes("128x16 256x8 512x4 512x4", 512)
MOBILENET = shapes("12x16 16x8 48x4 160x2", 1280)
SHUFFLE1, SHUFFLE2 = shapes("240x16 480x8 960x4", 960, preact=False), shapes("116x16 232x8 464x4", 1024, preact=False)

# The lists that ReviewKD's own CIFAR-100 code types in for each pair: student and teacher channels from the shallowest,
# student and teacher sides from the deepest.
PAIRS = {
    "wrn_40_2-wrn_40_1": (WRN_1, WRN_2, (16, 32, 64, 64), (32, 64, 128, 128), (1, 8, 16, 32), (1, 8, 16, 32)),
    "resnet56-resnet20": (RESNET, RESNET, (16, 32, 64, 64), (16, 32, 64, 64), (1, 8, 16, 32), (1, 8, 16, 32)),
    "resnet32x4-resnet8x4": (
        *(RESNET_X4, RESNET_X4, (64, 128, 256, 256), (64, 128, 256, 256), (1, 8, 16, 32), (1, 8, 16, 32)),
    ),
    "ResNet50-MobileNetV2": (
        *(MOBILENET, RESNET50, (12, 16, 48, 160, 1280), (256, 512, 1024, 2048, 2048)),
        *((1, 2, 4, 8, 16), (1, 4, 8, 16, 32)),
    ),
    "vgg13-MobileNetV2": (
        *(MOBILENET, VGG, (12, 16, 48, 160, 1280), (128, 256, 512, 512, 512), (1, 2, 4, 8, 16), (1, 4, 4, 8, 16)),
    ),
    "resnet32x4-ShuffleV1": (
        *(SHUFFLE1, RESNET_X4, (240, 480, 960, 960), (64, 128, 256, 256), (1, 4, 8, 16), (1, 8, 16, 32)),
    ),
    "resnet32x4-ShuffleV2": (
        *(SHUFFLE2, RESNET_X4, (116, 232, 464, 1024), (64, 128, 256, 256), (1, 4, 8, 16), (1, 8, 16, 32)),
    ),
    "wrn_40_2-ShuffleV1": (
        *(SHUFFLE1, WRN_2, (240, 480, 960, 960), (32, 64, 128, 128), (1, 4, 8, 16), (1, 8, 16, 32)),
    ),
    "vgg13-vgg8": (VGG, VGG, (128, 256, 512, 512, 512), (128, 256, 512, 512, 512), (1, 4, 4, 8, 16), (1, 4, 4, 8, 16)),
}


def fake(sizes: dict[str, tuple[int, ...]]) -> dict[str, Tensor]:
    return {role: torch.randn(2, *shape) for role, shape in sizes.items()}


@pytest.mark.parametrize("name", PAIRS)
def test_shapes_come_from_the_taps_and_equal_the_published_lists(name: str) -> None:
    student, teacher, channels_s, channels_t, sides_s, sides_t = PAIRS[name]
    method = ReviewKD()
    method.build(pair_of(student, teacher))
    assert tuple(block.reduce[0].in_channels for block in method.blocks) == channels_s[::-1]
    assert tuple(block.expand[0].out_channels for block in method.blocks) == channels_t[::-1]
    assert {block.expand[0].in_channels for block in method.blocks} == {min(512, channels_s[-1])}
    assert tuple(block.size[0] for block in method.blocks) == sides_t
    assert tuple((*student[role], 1)[1] for role, _ in method.levels) == sides_s
    assert torch.isfinite(total(method.losses(fake(student), fake(teacher), batch_of(2), moment_at())))


def deepest(pair: Pair) -> list[tuple[str, str]]:
    method = ReviewKD()
    method.build(pair)
    return method.levels


def test_unequal_counts_match_the_deepest() -> None:
    assert deepest(pair_of(VGG, RESNET_X4)) == [
        ("embedding", "embedding"),
        ("stage4", "stage3.preact"),
        ("stage3", "stage2.preact"),
        ("stage2", "stage1.preact"),
    ]
    assert [s for s, _ in deepest(pair_of(SHUFFLE1, RESNET50))] == ["embedding", "stage3", "stage2", "stage1"]


def test_the_student_may_be_tapped_before_its_activations_and_the_width_limited() -> None:
    method = ReviewKD(ReviewKD.Options(student="preact", max_mid_channels=24))
    method.build(pair_of(RESNET, RESNET_X4))
    assert [s for s, _ in method.levels] == ["embedding", "stage3.preact", "stage2.preact", "stage1.preact"]
    assert method.blocks[0].reduce[0].out_channels == 24


def test_no_stages_no_review() -> None:
    with pytest.raises(CannotServe, match="no stages"):
        ReviewKD().build(pair_of({"embedding": (8,)}, RESNET))
