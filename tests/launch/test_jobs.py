"""A plan as jobs: which job waits for which, which runs share a job, and how long planning takes."""

from __future__ import annotations

import resource
import time
from pathlib import Path

import pytest
from small import ROWS, call, plan_of, run_suite, runs_of, store_in, write_suite
from submitit.helpers import TorchDistributedEnvironment

from benchmark.cli.parser import main
from benchmark.errors import UsageError
from benchmark.launch.jobs import Array, Wishes, arrays_of, shared_out, to_do, wall_minutes
from benchmark.launch.work import Work
from benchmark.paper.manifest import load, suite_path
from benchmark.plan.experiment import Experiment, Run, Selection, make_plan, ranks_of
from benchmark.train.settings import Settings

REPEATED = {"repetitions": 4}


def minute(experiment: Experiment) -> float:
    return 60.0


def placed(arrays: list[Array]) -> dict[str, tuple[int, int]]:
    return {run.key: (a, j) for a, array in enumerate(arrays) for j, job in enumerate(array.jobs) for run in job.runs}


@pytest.fixture
def suite(workplace: Path) -> Path:
    return write_suite(workplace / "jobs.yaml", ROWS | {"DKD": {"method": "dkd"}}, profile=REPEATED)


def test_every_run_is_in_one_job_and_students_wait_for_their_teacher(suite: Path) -> None:
    plan = plan_of(suite)
    arrays = arrays_of(plan.runs, minute, Wishes(batch_minutes=2))
    places = placed(arrays)
    assert len(places) == len(plan.runs) == sum(len(job.runs) for array in arrays for job in array.jobs)
    teacher = runs_of(suite)["Teacher"]
    for run in plan.runs:
        array = arrays[places[run.key][0]]
        needs = [needed.key for needed in array.jobs[places[run.key][1]].needs]
        if run.experiment.teacher is not None:
            assert array.after == (places[teacher.key],)
            assert needs == [teacher.key]
        else:
            assert (array.after, needs) == ((), [])


def test_short_runs_share_a_job_up_to_the_limit(suite: Path) -> None:
    plan = plan_of(suite)
    sizes = [len(job.runs) for array in arrays_of(plan.runs, minute, Wishes(batch_minutes=3)) for job in array.jobs]
    assert max(sizes) == 3
    alone = [len(job.runs) for array in arrays_of(plan.runs, minute, Wishes(batch_minutes=0.5)) for job in array.jobs]
    assert set(alone) == {1}


def test_with_a_limit_arrays_follow_one_another(suite: Path) -> None:
    arrays = arrays_of(plan_of(suite).runs, minute, Wishes(batch_minutes=1, max_parallel=2))
    assert len(arrays) > 1
    assert [array.after for array in arrays] == [(), *(((index, None),) for index in range(len(arrays) - 1))]


def test_students_of_a_teacher_in_an_earlier_submission_wait_for_its_job(suite: Path) -> None:
    plan = plan_of(suite)
    teacher = runs_of(suite)["Teacher"].key
    rest = [run for run in plan.runs if run.key != teacher]
    waiting = [array for array in arrays_of(rest, minute, Wishes(), {teacher: "17_3"}) if array.after_jobs]
    assert {array.after_jobs for array in waiting} == {("17_3",)}
    assert sum(len(job.runs) for array in waiting for job in array.jobs) == 8  # KD and DKD, four times


@pytest.mark.parametrize(
    ("seconds", "minutes"), [(0, 15), (400, 15), (500, 30), (3600, 120), (8 * 3600, 960), (90 * 3600, 1440)]
)
def test_wall_time_is_the_estimate_with_a_margin(seconds: float, minutes: int) -> None:
    assert wall_minutes(seconds) == minutes


def test_processes_of_a_run_are_what_its_recipe_says(suite: Path) -> None:
    experiment = runs_of(suite)["KD"].experiment
    assert experiment.recipe is not None
    assert ranks_of(experiment) == 1
    spread = experiment.recipe.model_copy(update={"batch": 256, "per_device_batch": 32})
    from dataclasses import replace

    assert ranks_of(replace(experiment, recipe=spread)) == 8


@pytest.mark.parametrize("name", ["table4", "table5", "table6"])
def test_a_dense_run_is_planned_for_one_process(name: str) -> None:
    runs = make_plan([load(suite_path(name))], Selection(all_rows=True)).runs
    trained = [run.experiment for run in runs if run.experiment.recipe is not None]
    assert any(experiment.recipe.batch != experiment.recipe.per_device_batch for experiment in trained)
    assert {ranks_of(experiment) for experiment in trained} == {1}
    assert {array.ranks for array in arrays_of(runs, minute, Wishes())} == {1}


@pytest.mark.parametrize(
    ("asked", "named"),
    [
        (("--launcher", "slurm", "--ranks", "2"), "--ranks 2"),
        (("--launcher", "slurm", "--gpus", "8"), "--gpus 8"),
        (("--launcher", "slurm", "--nodes", "2"), "--nodes 2"),
        (("--launcher", "local", "--ranks", "2", "--device", "cpu"), "--ranks 2"),
        (("--launcher", "debug", "--ranks", "2", "--device", "cpu"), "--ranks 2"),
    ],
)
def test_several_processes_for_a_dense_run_are_refused_at_submission(
    asked: tuple[str, ...], named: str, workplace: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    mixed = ["run", "smoke", "table4", "--profile", "smoke", "--only", "*DiffKD*", "--yes"]
    assert main([*mixed, *asked]) == 2
    shown = capsys.readouterr().err
    assert f"{named}: detection and segmentation train in one process, here generated-coco" in shown
    assert f"fix: leave out {named}" in shown
    assert not list((workplace / "runs").rglob("*.pkl")) and not list(workplace.rglob("r0.json"))


def test_one_process_may_be_said_and_classification_may_have_several(
    workplace: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    slurm = ["--launcher", "slurm", "--profile", "smoke", "--dry-run"]
    assert main(["run", "table4", *slurm, "--ranks", "1", "--gpus", "8"]) == 0
    assert main(["run", "table9", *slurm, "--ranks", "2"]) == 0
    assert "2 processes a run" in capsys.readouterr().out


def test_a_job_that_slurm_gave_several_tasks_trains_no_dense_run(
    workplace: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    plan = make_plan([load(suite_path("table4"))], Selection(only=("*DiffKD*",), profile="smoke"))
    store = store_in(workplace)
    work = Work(tuple(plan.runs), (), store, "cpu", Settings, workplace, 0.0, 0)
    here = {"JOB_ID": "7", "JOB_NODELIST": "here", "NTASKS": "2", "PROCID": "0", "LOCALID": "0", "NODEID": "0"}
    for name, value in {**here, "JOB_NUM_NODES": "1"}.items():
        monkeypatch.setenv(f"SLURM_{name}", value)
    monkeypatch.setenv("SUBMITIT_EXECUTOR", "slurm")
    monkeypatch.setattr(TorchDistributedEnvironment, "__init__", lambda self: None)
    monkeypatch.setattr(TorchDistributedEnvironment, "export", lambda self, **_: monkeypatch.setenv("WORLD_SIZE", "2"))
    with pytest.raises(UsageError, match=r"2 processes in this job \(SLURM_NTASKS\).* train in one process"):
        work()
    told = {store.paths(run).failure.read_text().split(":")[0] for run in plan.runs}
    assert told == {"2 processes in this job (SLURM_NTASKS)"}
    assert not list(workplace.rglob("r0.json")) and not list(workplace.rglob("*.pt"))


def test_what_is_recorded_is_not_to_do_but_a_teacher_without_weights_is(suite: Path, workplace: Path) -> None:
    plan, store = plan_of(suite), store_in(workplace)
    assert to_do(plan, store) == plan.runs
    assert run_suite(suite, "--only", "Teacher") == 0
    teacher = runs_of(suite)["Teacher"]
    assert [run.key for run in to_do(plan, store)] == [r.key for r in plan.runs if r.key != teacher.key]
    store.paths(teacher).student.unlink()
    assert len(to_do(plan, store)) == len(plan.runs)


def test_devices_of_one_machine_are_given_the_same_runs_in_another_order(suite: Path) -> None:
    runs = plan_of(suite).runs
    one, two = shared_out(runs, 2, minute, Wishes())
    assert sorted(run.key for run in one.runs) == sorted(run.key for run in two.runs) == sorted(run.key for run in runs)
    assert one.runs[1] is not two.runs[1]
    assert one.runs[0] is two.runs[0] is runs[0]  # the only teacher is everybody's first


def test_planning_ten_thousand_runs_takes_less_than_five_seconds(workplace: Path) -> None:
    rows = {f"KD {n}": {"method": {"kd": {"temperature": 1 + n / 100}}} for n in range(400)}
    many = write_suite(workplace / "many.yaml", rows, profile={"repetitions": 25})
    began = time.process_time()
    plan = plan_of(many)
    arrays = arrays_of(to_do(plan, store_in(workplace)), minute, Wishes())
    spent = time.process_time() - began
    assert len(placed(arrays)) == 10_001
    assert spent < 5


@pytest.mark.slow
def test_the_command_plans_ten_thousand_runs_in_less_than_five_seconds_beyond_its_start(workplace: Path) -> None:
    rows = {f"KD {n}": {"method": {"kd": {"temperature": 1 + n / 100}}} for n in range(400)}
    write_suite(workplace / "many.yaml", rows, profile={"repetitions": 25})
    write_suite(workplace / "one.yaml")
    asked = ("--launcher", "slurm", "--dry-run", "--device", "cpu")

    def seconds(name: str) -> float:
        """Return the processor seconds of planning, which do not depend on other load."""
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        done = call("run", name, *asked)
        assert done.returncode == 0, done.stderr
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime

    start = min(seconds("one.yaml") for _ in range(2))
    assert min(seconds("many.yaml") for _ in range(2)) - start < 5


def test_a_run_is_named_by_identity_and_repetition(suite: Path) -> None:
    run = runs_of(suite)["KD"]
    assert Run(run.experiment, 3).key == f"{run.experiment.identity}-r3"
