"""Segmentation from manifest to record: what is trained and kept, what mIoU is, and what the server gets."""

from __future__ import annotations

import signal
import subprocess
import time
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from forked import Forked
from PIL import Image
from segmentation_runs import DIFFKD, SETTING, carry_out, runs_by_row, suite
from small import After, command, environment, record_of, settings_in, store_in
from torch import Tensor

from benchmark.cli.parser import main
from benchmark.data import cityscapes
from benchmark.data.cityscapes import CityscapesFolder
from benchmark.data.generated_cityscapes import generate
from benchmark.errors import BenchmarkError, MissingInput, UsageError
from benchmark.models import openmmlab
from benchmark.models.registry import model
from benchmark.paper.manifest import load, suite_path
from benchmark.plan.experiment import Run, Selection, make_plan
from benchmark.records.store import Record
from benchmark.train import honouring
from benchmark.train.dense.feeding import training_loader
from benchmark.train.dense.generators import own_generators
from benchmark.train.dense.mmengine_evaluation import evaluate
from benchmark.train.dense.mmengine_loop import DenseTraining
from benchmark.train.dense.segmentation import SCALES, TASK, segmentor
from benchmark.train.dense.server_archive import write_server_archive
from benchmark.train.settings import Stopped

TABLE_6 = make_plan(
    [load(suite_path("table6"))], Selection(profile="smoke", all_rows=True, absent=frozenset({"cityscapes"}))
)
# One of each family by default, DiffKD's; the other rows are as quick, but many.
QUICK = {"PSPNet-R18: DiffKD"}


def row_of(run: Run) -> str:
    cell = TABLE_6.cells[run.experiment.identity][0]
    return f"{cell.setting.group}: {cell.row}"


@pytest.fixture(scope="module")
def rows(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One place for all rows: images are generated and the teacher is measured once."""
    return tmp_path_factory.mktemp("rows")


@pytest.mark.parametrize(
    "run",
    [pytest.param(run, id=row_of(run), marks=() if row_of(run) in QUICK else pytest.mark.slow) for run in TABLE_6.runs],
)
def test_every_row_of_table_6_runs_from_its_manifest(run: Run, rows: Path) -> None:
    found = carry_out(run, rows)
    assert found.status == "done", found.reason
    assert all(0 <= found.last[name] <= 100 for name in ("miou", "pixel_accuracy"))
    assert found.data.more["train_images"] == 2
    if run.experiment.recipe is None:
        return
    assert ("task.loss_aux" in found.tracked) == ("resnet" in run.experiment.student)
    terms = set(found.tracked) - {"total", "task", "task.loss_ce", "task.loss_aux"}
    assert bool(terms) == (run.experiment.teacher is not None)
    assert all(np.isfinite(value) for value in found.tracked.values())
    assert found.effective.batch == 2


def test_no_row_of_table_6_is_left_out() -> None:
    """But the test column, whose labels only the server has."""
    cells = [cell for cell in load(suite_path("table6")).cells if cell.metric == "miou"]
    assert not any(cell.setting.pending for cell in load(suite_path("table6")).cells)
    served = {cell.id for cells in TABLE_6.cells.values() for cell in cells}
    assert {cell.id for cell in cells} <= served
    hidden = [cell for cell in load(suite_path("table6")).cells if cell.metric == "miou_test"]
    assert len(hidden) == len(cells) and all(cell.setting.not_verifiable for cell in hidden)


def built(run: Run, folder: Path) -> DenseTraining:
    """A run that is put together and not begun."""
    with openmmlab.scope("mmseg"), own_generators("fp32", torch.device("cpu")):
        return DenseTraining(run, settings_in(folder))


def first_batch(training: DenseTraining) -> Any:
    with openmmlab.scope("mmseg"):
        return next(iter(training_loader(training.data, training.order)))


class Kept:
    """What an optimiser would do, undone: gradients stay to be looked at."""

    clip_grad_kwargs = None

    def optim_context(self, model: Any) -> Any:
        import contextlib

        return contextlib.nullcontext()

    def backward(self, loss: Tensor) -> None:
        torch.autograd.backward(loss)

    def step(self) -> None: ...

    def zero_grad(self) -> None: ...


def test_gradients_reach_student_and_side_networks_and_never_the_teacher(workplace: Path) -> None:
    training = built(runs_by_row(suite(workplace))["DiffKD"], workplace)
    teacher = training.parts.teacher
    assert teacher is not None
    passes: list[int] = []
    teacher.network.get_submodule("pretrained").register_forward_hook(lambda *call: passes.append(1))
    before = {name: tensor.clone() for name, tensor in teacher.network.state_dict().items()}
    training.model.train()
    with openmmlab.scope("mmseg"), own_generators("fp32", torch.device("cpu")):
        training.model.train_step(first_batch(training), Kept())
    assert len(passes) == 1, "the teacher sees a batch once"
    for network in (training.parts.student.network, training.parts.method):
        idle = [name for name, p in network.named_parameters() if p.grad is None]
        assert not idle and list(network.parameters())
    assert float(training.parts.student.network.get_parameter("pretrained.conv1.weight").grad.abs().sum()) > 0  # type: ignore[union-attr]
    assert all(p.grad is None and not p.requires_grad for p in teacher.parameters())
    assert all(torch.equal(before[name], tensor) for name, tensor in teacher.network.state_dict().items())
    assert not {id(p) for p in training.model.parameters()} & {id(p) for p in teacher.parameters()}
    assert {"feature.distillation", "feature.diffusion", "task.loss_aux"} <= set(training.meter.means())


def test_rows_of_one_repetition_start_alike_and_see_the_same_images(workplace: Path) -> None:
    runs = runs_by_row(suite(workplace))
    plain, diffkd = (built(runs[row], workplace) for row in ("Student", "DiffKD"))
    theirs = plain.parts.student.network.state_dict()
    assert all(torch.equal(theirs[k], v) for k, v in diffkd.parts.student.network.state_dict().items())
    one, other = first_batch(plain), first_batch(diffkd)
    assert all(torch.equal(a, b) for a, b in zip(one["inputs"], other["inputs"], strict=True))
    for a, b in zip(one["data_samples"], other["data_samples"], strict=True):
        assert torch.equal(a.gt_sem_seg.data, b.gt_sem_seg.data)


def test_training_images_are_scaled_cropped_and_mirrored_with_their_labels(workplace: Path) -> None:
    training = built(runs_by_row(suite(workplace))["Student"], workplace)
    road = np.array([110, 100, 115], np.float32)[::-1]  # as generated; images are read blue first
    with openmmlab.scope("mmseg"):
        items = [training.data.train[position] for position in (0, 1) for _ in range(8)]
    for item in items:
        labels = item["data_samples"].gt_sem_seg.data[0]
        assert item["inputs"].shape == (3, 48, 96) and labels.shape == (48, 96)
        assert set(labels.unique().tolist()) <= {*range(19), 255}
        on_road = item["inputs"].float()[:, labels == 0]
        if on_road.shape[1] > 200:
            assert np.abs(on_road.mean(dim=1).numpy() - road).max() < 40
    assert {item["data_samples"].metainfo["flip"] for item in items} == {False, True}
    assert len(SCALES) == 16 and (SCALES[0], SCALES[-1]) == (0.5, 2.0)


def test_miou_is_the_mean_over_the_classes_that_occur(workplace: Path) -> None:
    training = built(runs_by_row(suite(workplace))["Student"], workplace)
    network: Any = training.parts.student.network
    data = training.data
    with openmmlab.scope("mmseg"):
        found = TASK.metrics(evaluate(network, data, torch.device("cpu"), "fp32"))
        counts = np.zeros((19, 19))
        right = total = 0
        for position in range(len(data.test)):
            item = data.test[position]
            with torch.no_grad():
                sample = network.test_step({"inputs": [item["inputs"]], "data_samples": [item["data_samples"]]})[0]
            predicted, labels = sample.pred_sem_seg.data[0].numpy(), sample.gt_sem_seg.data[0].numpy()
            known = labels != 255
            np.add.at(counts, (labels[known], predicted[known]), 1)
            right, total = right + (labels == predicted)[known].sum(), total + known.sum()
    union = counts.sum(0) + counts.sum(1) - counts.diagonal()
    expected = np.mean([counts[c, c] / union[c] for c in range(19) if union[c]])
    assert found["miou"] == pytest.approx(100 * expected, abs=0.006)  # mmseg rounds to two digits
    assert found["pixel_accuracy"] == pytest.approx(100 * right / total, abs=0.006)


def test_what_segmentation_cannot_do_is_refused(workplace: Path) -> None:
    run = runs_by_row(suite(workplace), ema=0.99, optimizer="adamw")["Student"]
    with pytest.raises(UsageError, match=r"ema 0.99, optimizer adamw: not supported; segmentation honours"):
        honouring.require(run.experiment)


def test_paper_profile_needs_the_whole_of_cityscapes(workplace: Path, capsys: pytest.CaptureFixture[str]) -> None:
    arguments = [
        "run",
        "table6",
        "--profile",
        "paper",
        "--only",
        "DiffKD",
        "--yes",
        "--device",
        "cpu",
        "--threads",
        "1",
    ]
    assert main(arguments) != 0
    assert "Cityscapes is not in" in "".join(capsys.readouterr())
    generate(workplace / "few" / "cityscapes", 48, 96)
    assert main([*arguments, "--data-dir", str(workplace / "few")]) != 0
    assert "train has 16 images, Cityscapes has 2975" in "".join(capsys.readouterr())


def test_the_servers_archive_holds_label_numbers_of_every_test_image(workplace: Path) -> None:
    folder = CityscapesFolder(generate(workplace / "set", 48, 96))
    torch.manual_seed(0)
    network = segmentor("pspnet_resnet18", 19)
    torch.save(network.state_dict(), workplace / "student.pth")
    lines: list[str] = []
    where = {"data_dir": folder.root, "whole": False, "say": lines.append}
    archive = write_server_archive("pspnet_resnet18", workplace / "student.pth", workplace / "out.zip", **where)
    with zipfile.ZipFile(archive) as zipped:
        names = zipped.namelist()
        assert names == [f"{name.split('/')[1]}{cityscapes.IMAGE}" for name in folder.names("test")]
        for name in names:
            with zipped.open(name) as file, Image.open(file) as image:
                found = np.asarray(image)
            assert found.shape == (48, 96) and set(np.unique(found)) <= set(cityscapes.LABEL_IDS)
    assert lines == ["2 of 2 images"]
    again = write_server_archive("pspnet_resnet18", workplace / "student.pth", workplace / "again.zip", **where)
    assert again.read_bytes() == archive.read_bytes()


def test_an_incomplete_archive_is_not_written(workplace: Path) -> None:
    folder = CityscapesFolder(generate(workplace / "set", 48, 96))
    torch.save(segmentor("pspnet_resnet18", 19).state_dict(), workplace / "student.pth")
    arguments = (workplace / "student.pth", workplace / "out.zip")
    with pytest.raises(MissingInput, match="test has 2 images, Cityscapes has 1525"):
        write_server_archive("pspnet_resnet18", *arguments, data_dir=folder.root)
    with pytest.raises(MissingInput, match="does not fit CirkdSegmentor"):
        write_server_archive("deeplabv3_resnet18", *arguments, data_dir=folder.root, whole=False)
    assert not (workplace / "out.zip").exists()


@pytest.mark.slow
def test_a_killed_run_goes_on_and_ends_as_if_it_never_was(workplace: Path) -> None:
    """With noise and side networks, which are DiffKD's, and memories, which are CIRKD's."""
    both = DIFFKD | {"cirkd": {"pixel_queue": 40, "region_queue": 20}}
    path = suite(workplace, {"Row": {"method": both}}, profile={"epochs": 4, "train": 2})
    run = runs_by_row(path)["Row"]
    arguments = ["run", str(path), "--threads", "1", "--device", "cpu", "--checkpoint-seconds", "0"]
    there = [*arguments, "--results-dir", "whole/results", "--runs-dir", "whole/runs"]
    assert subprocess.run(command(*there), env=environment(PYTHONWARNINGS="default"), check=False).returncode == 0
    saved = store_in(workplace).paths(run).checkpoint
    for _ in range(2):
        before = saved.stat().st_mtime_ns if saved.exists() else 0
        process = Forked(arguments, PYTHONWARNINGS="default")
        deadline = time.monotonic() + 200
        try:
            while process.poll() is None and time.monotonic() < deadline:
                if saved.exists() and saved.stat().st_mtime_ns != before:
                    break
                time.sleep(0.01)
        finally:
            assert process.kill() == -signal.SIGKILL, "ended by itself"
        assert saved.exists(), "killed before a checkpoint, or not at all"
    assert Forked(arguments, PYTHONWARNINGS="default").wait(200) == 0
    whole, parts = record_of(run, workplace / "whole"), record_of(run, workplace)
    assert parts.outcome() == whole.outcome()
    assert parts.interruptions == 2


@pytest.mark.slow
def test_a_run_with_a_discriminator_interrupted_at_every_step_ends_as_if_it_never_was(workplace: Path) -> None:
    """CWD's adversarial term has a second optimiser, whose state is the method's own."""
    run = runs_by_row(suite(workplace, {"CWD": {"method": {"cwd": {"adversarial_weight": 0.001}}}}))["CWD"]
    whole = carry_out(run, workplace / "whole")
    assert whole.status == "done", whole.reason
    assert {"adversarial", "discriminator"} <= set(whole.tracked)
    stops = 0
    while True:
        try:  # after one step; one question whether to stop comes before the first
            parts = carry_out(run, workplace / "parts", stop=After(1))
            break
        except Stopped:
            stops += 1
    assert stops == 4 and parts.outcome() == whole.outcome()
    side_networks = [store_in(workplace / place).paths(run).side_networks for place in ("whole", "parts")]
    one, other = (torch.load(path, weights_only=True) for path in side_networks)
    assert one.keys() == other.keys() and all(torch.equal(one[name], other[name]) for name in one)
    assert float(one["discriminator.steps"]) == 4


@pytest.mark.slow
@pytest.mark.usefixtures("without_gradient_norms")
def test_diffkd_overfits_a_handful_of_images(workplace: Path) -> None:
    """Beside the plain student, from the same start and in the same order; the curves are shown, whatever they say.

    The plain student is the teacher: what it has learned by heart, the other learns.
    """
    path = suite(
        workplace,
        setting={"teacher": SETTING["student"]},
        profile={"epochs": 60, "train": 4, "test": 1, "batch": 4},
    )
    runs = runs_by_row(path, evaluate_steps=6)
    for run in runs.values():
        record = carry_out(run, workplace)
        assert record.status == "done", record.reason
    curves = {row: store_in(workplace).paths(run).curves.read_text() for row, run in runs.items()}
    for row, text in curves.items():
        print(f"{row}\n{text}")
    for row in ("Student", "DiffKD"):
        found = curve(curves[row], "task.loss_ce")
        assert found[-1] < 0.5 * found[0], f"{row}: {found}"
    for term, factor in {"feature.distillation": 0.6, "feature.diffusion": 0.7}.items():
        found = curve(curves["DiffKD"], term)
        assert found[-1] < factor * found[0], f"{term}: {found}"


def curve(text: str, term: str) -> list[float]:
    header, *rows = (line.split(",") for line in text.splitlines())
    return [float(row[header.index(f"train.{term}")]) for row in rows]


def test_export_writes_what_the_server_scores(workplace: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """From a record and its weights; a classification run has nothing for that server."""
    folder = CityscapesFolder(generate(workplace / "set", 48, 96))
    run = next(run for run in TABLE_6.runs if run.experiment.student == "pspnet_resnet18")
    store = store_in(workplace)
    store.write(
        run, Record(identity=run.experiment.identity, repetition=0, status="done", experiment=run.experiment.describe())
    )
    store.prepare()
    weights = store.paths(run).student
    weights.parent.mkdir(parents=True)
    torch.save(segmentor("pspnet_resnet18", 19).state_dict(), weights)
    asked = ["export", run.experiment.identity, "--kind", "cityscapes", "--out", str(workplace / "out.zip")]
    asked += ["--data-dir", str(folder.root), "--runs-dir", str(store.runs), "--results-dir", str(store.results)]
    assert main(asked) == 3
    assert "test has 2 images, Cityscapes has 1525" in capsys.readouterr().err
    assert main([*asked, "--partial"]) == 0
    assert len(zipfile.ZipFile(workplace / "out.zip").namelist()) == 2
    assert main([*asked, "--kind", "student"]) == 2
    assert "is one of segmentation" in capsys.readouterr().err


def test_an_exchanged_backbone_is_refused_by_the_next_repetition(workplace: Path) -> None:
    """The weights of Table 6 are known by the names of their files alone."""
    rows = {"Student": {"method": "none", "student_weights": "resnet18-imagenet.pth"}}
    path = suite(workplace, rows, profile={"epochs": 1, "train": 2, "test": 1})
    run = runs_by_row(path)["Student"]
    network = model(run.experiment.student).build(19).pretrained
    torch.save(network.state_dict(), workplace / "resnet18-imagenet.pth")
    record = carry_out(run, workplace)
    assert record.weight_files["student"]["file"] == "resnet18-imagenet.pth"
    torch.save({name: value + 1 for name, value in network.state_dict().items()}, workplace / "resnet18-imagenet.pth")
    with pytest.raises(BenchmarkError, match=r"resnet18-imagenet\.pth holds other bytes than in"):
        carry_out(Run(run.experiment, 1), workplace)
