"""One image: decoding, cropping and resizing as Pillow does, and choices as timm makes them."""

from __future__ import annotations

import io
import random
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from timm.data.auto_augment import rand_augment_transform
from timm.data.random_erasing import RandomErasing
from timm.data.transforms import RandomResizedCropAndInterpolation
from torchvision.transforms import v2

from benchmark.data.decode import (
    IMAGENET_MEAN,
    Augmentation,
    Box,
    crop_box,
    cropped,
    evaluation_image,
    read_image,
    training_image,
)
from benchmark.data.erasing import NOTHING, erased, erasing_box
from benchmark.data.generated_folder import picture
from benchmark.errors import UsageError
from benchmark.machine.streams import seed_of
from benchmark.paper.recipe import recipe

RESAMPLING = {"bilinear": Image.Resampling.BILINEAR, "bicubic": Image.Resampling.BICUBIC}


def photo(width: int, height: int, seed: int = 0) -> Image.Image:
    return picture(seed, width, height, np.random.default_rng(seed))


def saved(image: Image.Image, path: Path, **options: object) -> str:
    image.save(path, **options)
    return str(path)


def as_tensor(image: Image.Image) -> torch.Tensor:
    return torch.from_numpy(np.array(image.convert("RGB"))).permute(2, 0, 1)


def furthest(one: torch.Tensor, other: torch.Tensor) -> int:
    return int((one.int() - other.int()).abs().max())


@pytest.mark.parametrize("options", [{"quality": 90}, {"quality": 95, "subsampling": 0}, {"progressive": True}])
def test_a_jpeg_has_the_pixels_that_pillow_decodes(tmp_path: Path, options: dict[str, object]) -> None:
    path = saved(photo(123, 77), tmp_path / "a.JPEG", **options)
    assert torch.equal(read_image(path), as_tensor(Image.open(path)))


@pytest.mark.parametrize(("mode", "name"), [("L", "a.JPEG"), ("CMYK", "b.JPEG"), ("P", "c.png"), ("RGBA", "d.png")])
def test_other_kinds_of_image_become_rgb_as_pillow_makes_them(tmp_path: Path, mode: str, name: str) -> None:
    path = saved(photo(60, 41).convert(mode), tmp_path / name)
    assert torch.equal(read_image(path), as_tensor(Image.open(path)))


def test_a_png_named_jpeg_is_read(tmp_path: Path) -> None:
    content = io.BytesIO()
    photo(40, 30).save(content, "PNG")
    (tmp_path / "odd.JPEG").write_bytes(content.getvalue())
    assert torch.equal(read_image(str(tmp_path / "odd.JPEG")), as_tensor(photo(40, 30)))


def test_without_a_native_decoder_the_pixels_are_the_same(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = saved(photo(123, 77), tmp_path / "a.JPEG", quality=90)
    native = read_image(path)
    monkeypatch.setattr("benchmark.data.decode._native_decoder", lambda: None)
    assert torch.equal(read_image(path), native)


def test_a_file_cut_off_is_an_error(tmp_path: Path) -> None:
    path = Path(saved(photo(200, 150), tmp_path / "a.JPEG"))
    path.write_bytes(path.read_bytes()[:2000])
    with pytest.raises(OSError, match="truncated"):
        read_image(str(path))


@pytest.mark.parametrize(("interpolation", "levels"), [("bilinear", 1), ("bicubic", 0)])
def test_crops_are_within_a_level_of_pillows(tmp_path: Path, interpolation: str, levels: int) -> None:
    draw = random.Random(0)
    for number, size in enumerate([(500, 375), (333, 500), (400, 300), (97, 64)]):
        path = saved(photo(*size, seed=number), tmp_path / "a.JPEG", quality=90)
        image, theirs = read_image(path), Image.open(path).convert("RGB")
        for _ in range(6):
            box = crop_box(draw, image.shape[1], image.shape[2], (0.08, 1.0), (3 / 4, 4 / 3))
            right, bottom = box.left + box.width, box.top + box.height
            part = theirs.crop((box.left, box.top, right, bottom)).resize((224, 224), RESAMPLING[interpolation])
            assert furthest(cropped(image, box, 224, interpolation), as_tensor(part)) <= levels


@pytest.mark.parametrize("size", [(500, 375), (375, 500), (256, 256), (300, 257), (640, 479), (90, 60)])
def test_evaluation_images_are_within_a_level_of_torchvisions(size: tuple[int, int]) -> None:
    image = photo(*size)
    theirs = v2.Compose([v2.Resize(256), v2.CenterCrop(224)])(image)
    assert furthest(evaluation_image(as_tensor(image), Augmentation()), as_tensor(theirs)) <= 1


@pytest.mark.parametrize("size", [(500, 375), (64, 64), (900, 90), (50, 800)])
def test_crops_are_drawn_as_timm_draws_them(size: tuple[int, int]) -> None:
    image, scale, ratio = Image.new("RGB", size), (0.08, 1.0), (3 / 4, 4 / 3)
    for seed in range(50):
        random.seed(seed)
        top, left, height, width = RandomResizedCropAndInterpolation.get_params(image, scale, ratio)
        assert crop_box(random.Random(seed), size[1], size[0], scale, ratio) == Box(top, left, height, width)


def test_boxes_to_erase_are_drawn_as_timm_draws_them() -> None:
    erase = RandomErasing(probability=0.5, mode="const", device="cpu")
    ours, erased_ones = torch.ones(40, 64, 64), 0
    for seed in range(40):
        random.seed(seed)
        theirs = erase(torch.ones(1, 64, 64))[0]
        top, left, height, width = erasing_box(random.Random(seed), 0.5, 64)
        ours[seed, top : top + height, left : left + width] = 0
        assert torch.equal(ours[seed], theirs)
        erased_ones += height > 0
    assert 10 < erased_ones < 30


def test_erasing_fills_the_box_with_normal_noise_and_nothing_else() -> None:
    boxes = torch.tensor([[2, 3, 40, 30], NOTHING])
    inputs = torch.full((2, 3, 64, 64), 9.0)
    result = erased(inputs, boxes, torch.Generator().manual_seed(0))
    changed = (result != 9.0).all(1)
    assert changed[0, 2:42, 3:33].all()
    assert changed.sum() == 40 * 30
    noise = result[0, :, 2:42, 3:33]
    assert abs(noise.mean()) < 0.1
    assert abs(noise.std() - 1) < 0.1


def states() -> tuple[object, ...]:
    return random.getstate(), str(np.random.get_state()), torch.get_rng_state().tolist()


def test_randaugment_is_timms_and_leaves_the_global_generators_alone() -> None:
    image = as_tensor(photo(90, 70))
    augmentation = Augmentation(size=48, evaluation_resize=48, randaugment="rand-m9-mstd0.5")
    timms = rand_augment_transform(
        "rand-m9-mstd0.5",
        {
            "translate_const": int(48 * 0.45),
            "img_mean": tuple(round(255 * mean) for mean in IMAGENET_MEAN),
            "interpolation": Image.Resampling.BILINEAR,
        },
    )
    changed = 0
    for index in range(12):
        before = states()
        ours, _ = training_image(image, augmentation, 0, 1, index)
        assert states() == before
        plain, _ = training_image(image, Augmentation(size=48, evaluation_resize=48), 0, 1, index)
        seed = seed_of("augment", 0, 1, index, "randaugment")
        random.seed(seed)
        np.random.seed(seed & 0xFFFFFFFF)
        theirs = timms(Image.fromarray(plain.permute(1, 2, 0).contiguous().numpy()))
        assert torch.equal(ours, as_tensor(theirs))
        changed += not torch.equal(ours, plain)
    assert changed > 4


def test_flips_are_mirror_images_and_happen_half_the_time() -> None:
    image = as_tensor(photo(80, 60))
    always, never = (Augmentation(size=32, evaluation_resize=32, flip=flip) for flip in (1.0, 0.0))
    half = Augmentation(size=32, evaluation_resize=32)
    flips = 0
    for index in range(60):
        plain, flipped, drawn = (training_image(image, a, 0, 0, index)[0] for a in (never, always, half))
        assert torch.equal(plain.flip(-1), flipped)
        flips += torch.equal(drawn, flipped)
    assert 18 < flips < 42


def test_colour_jitter_keeps_its_range_and_crops_stay_the_same() -> None:
    image = as_tensor(Image.new("RGB", (64, 64), (100, 100, 100)))
    levels = set()
    for index in range(40):
        pixels, _ = training_image(image, Augmentation(size=16, evaluation_resize=16, color_jitter=0.4), 0, 0, index)
        assert pixels.unique().numel() == 1  # a grey plane has neither contrast nor saturation
        levels.add(int(pixels[0, 0, 0]))
    assert 60 <= min(levels) < 75
    assert 125 < max(levels) <= 140


def test_erasing_changes_no_other_choice() -> None:
    image = as_tensor(photo(80, 60))
    plain, whole = training_image(image, Augmentation(size=32), 0, 0, 3)
    same, box = training_image(image, Augmentation(size=32, random_erasing=1.0), 0, 0, 3)
    assert torch.equal(plain, same)
    assert whole == NOTHING
    assert box[2] > 0


def test_repetition_epoch_and_image_each_change_the_choices() -> None:
    image, augmentation = as_tensor(photo(200, 150)), Augmentation(size=32)
    shown = {training_image(image, augmentation, *place)[0].numpy().tobytes() for place in np.ndindex(2, 3, 4)}
    assert len(shown) == 24


@pytest.mark.parametrize(
    ("name", "randaugment", "erasing", "jitters"),
    [
        ("B1", None, 0.0, False),
        ("B1-paper", None, 0.0, False),
        ("B2", "rand-m9-mstd0.5", 0.2, False),
        ("B2-paper", "rand-m9-mstd0.5", 0.2, False),
        ("B3", "rand-m9-mstd0.5", 0.25, False),
        ("B3-paper", "rand-m9-mstd0.5", 0.25, False),
    ],
)
def test_recipes_of_table_1(name: str, randaugment: str | None, erasing: float, jitters: bool) -> None:
    found = Augmentation.of(recipe(name).settings)
    assert (found.randaugment, found.random_erasing, found.jitters) == (randaugment, erasing, jitters)
    interpolation = "bicubic" if name.startswith("B3") else "bilinear"
    assert (found.size, found.evaluation_resize, found.interpolation) == (224, 256, interpolation)


def test_colour_jitter_beside_randaugment_has_to_be_forced() -> None:
    settings = recipe("B3").settings
    assert not Augmentation.of(settings).jitters
    assert Augmentation.of(settings, force_color_jitter=True).jitters
    assert Augmentation(color_jitter=0.4).jitters


def test_what_cannot_be_done_is_told_at_once() -> None:
    with pytest.raises(UsageError, match="crop-flip"):
        Augmentation.of(recipe("A1").settings)
    with pytest.raises(UsageError, match="rand-q7"):
        Augmentation(randaugment="rand-q7")
    with pytest.raises(UsageError, match="sometimes"):
        Augmentation(randaugment="sometimes")
    with pytest.raises(UsageError, match="short side of 200"):
        Augmentation(evaluation_resize=200)
