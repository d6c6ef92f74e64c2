"""`eval`: the accuracy of weights compared with the one that their source states."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest
import torch

from benchmark.cli.parser import main
from benchmark.data.generated_folder import Request, generate
from benchmark.models.registry import model
from benchmark.train.classification.evaluation import preparation

SHARED = Path(os.environ.get("BENCHMARK_SHARED_DATA", Path(__file__).resolve().parents[3] / "shared" / "data"))
CHECKPOINT = SHARED / "checkpoints" / "resnet56_cifar100_66.41.pth"


@pytest.fixture
def folder(workplace: Path) -> Path:
    return generate(workplace / "images", Request(classes=3, train=6, test=7, scale=0.2))


@pytest.fixture
def weights(workplace: Path) -> Path:
    torch.manual_seed(0)
    path = workplace / "weights.pt"
    torch.save(model("timm:resnet10t").build(3).state_dict(), path)
    return path


@pytest.mark.slow
def test_the_shared_resnet56_scores_what_was_published(
    cifar100_dir: Path, workplace: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    if not CHECKPOINT.is_file():
        pytest.skip(f"no ResNet-56 checkpoint at {CHECKPOINT}")
    given = ["resnet56", "--data", "cifar100", "--data-dir", str(cifar100_dir), "--weights", str(CHECKPOINT)]
    assert main(["eval", *given, "--published", "66.41", "--threads", "1"]) == 0
    shown = capsys.readouterr().out
    assert "top-1 66.41, top-5 89.09" in shown
    assert "published 66.41: gap +0.00, passes the teacher gate of 0.1" in shown


def test_a_folder_is_evaluated_and_the_gate_is_the_exit_code(
    folder: Path, weights: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    given = ["eval", "timm:resnet10t", "--data", str(folder), "--weights", str(weights)]
    assert main([*given, "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["published"] is None
    assert found["top1"] == pytest.approx(100 / 7 * round(found["top1"] * 7 / 100), abs=1e-3)
    assert main([*given, "--published", str(found["top1"])]) == 0
    assert main([*given, "--published", str(found["top1"] + 0.2)]) == 5
    assert "MISSES the teacher gate of 0.1" in capsys.readouterr().out


def test_accuracy_is_that_of_plain_code(folder: Path, weights: Path, capsys: pytest.CaptureFixture[str]) -> None:
    from PIL import Image
    from torchvision import transforms

    assert main(["eval", "timm:resnet10t", "--data", str(folder), "--weights", str(weights), "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    network = model("timm:resnet10t").build(3).eval()
    network.load_state_dict(torch.load(weights, weights_only=True))
    prepare = transforms.Compose(
        [
            transforms.Resize(256),
            transforms.CenterCrop(224),
            transforms.ToTensor(),
            transforms.Normalize((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)),
        ]
    )
    losses = []
    for label, name in enumerate(sorted(path.name for path in (folder / "val").iterdir())):
        for path in sorted((folder / "val" / name).iterdir()):
            with torch.no_grad(), Image.open(path) as image:
                scores = network(prepare(image.convert("RGB"))[None])
            losses.append(torch.nn.functional.cross_entropy(scores, torch.tensor([label])))
    assert found["loss"] == pytest.approx(float(torch.stack(losses).mean()), rel=2e-2)


def test_images_are_prepared_as_the_weights_source_does() -> None:
    assert preparation("torchvision:ResNet34_Weights.IMAGENET1K_V1").resize == 256
    timms = preparation("timm:resnet50.a1_in1k")
    assert (timms.size, timms.resize, timms.interpolation) == (224, 235, "bicubic")


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["resnet56", "--data", "cifar100"], "no weights are given for resnet56"),
        (["timm:resnet10t", "--data", "nowhere", "--weights", "weights.pt"], "no data set or folder 'nowhere'"),
        (["resnet18", "--data", "imagenet", "--weights", "torchvision:ResNet18_Weights.V9"], "has no weights"),
        (["timm:resnet10t", "--data", "images", "--weights", "timm:resnet10t.nobody"], "timm has no file of weights"),
    ],
)
def test_mistakes_are_told(
    folder: Path, weights: Path, arguments: list[str], said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["eval", *arguments]) == 2
    shown = capsys.readouterr().err
    assert said in shown and "fix:" in shown
