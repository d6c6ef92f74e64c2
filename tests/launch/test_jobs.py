"""A plan as jobs: who waits for whom, what shares a job, and how long planning takes."""

from __future__ import annotations

import time
from pathlib import Path

import pytest
from small import ROWS, call, plan_of, run_suite, runs_of, store_in, write_suite

from benchmark.experiment import Experiment, Run
from benchmark.launch.jobs import Array, Wishes, arrays_of, ranks_of, shared_out, to_do, wall_minutes
from benchmark.launch.submissions import run_key

REPEATED = {"repetitions": 4}


def minute(experiment: Experiment) -> float:
    return 60.0


def placed(arrays: list[Array]) -> dict[str, tuple[int, int]]:
    return {
        run_key(run): (a, j) for a, array in enumerate(arrays) for j, job in enumerate(array.jobs) for run in job.runs
    }


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
        array = arrays[places[run_key(run)][0]]
        needs = [run_key(needed) for needed in array.jobs[places[run_key(run)][1]].needs]
        if run.experiment.teacher is not None:
            assert array.after == (places[run_key(teacher)],)
            assert needs == [run_key(teacher)]
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
    teacher = run_key(runs_of(suite)["Teacher"])
    rest = [run for run in plan.runs if run_key(run) != teacher]
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


def test_what_is_recorded_is_not_to_do_but_a_teacher_without_weights_is(suite: Path, workplace: Path) -> None:
    plan, store = plan_of(suite), store_in(workplace)
    assert to_do(plan, store) == plan.runs
    assert run_suite(suite, "--only", "Teacher") == 0
    teacher = runs_of(suite)["Teacher"]
    assert [run_key(run) for run in to_do(plan, store)] == [
        run_key(r) for r in plan.runs if run_key(r) != run_key(teacher)
    ]
    store.paths(teacher).student.unlink()
    assert len(to_do(plan, store)) == len(plan.runs)


def test_devices_of_one_machine_are_given_the_same_runs_in_another_order(suite: Path) -> None:
    runs = plan_of(suite).runs
    one, two = shared_out(runs, 2, minute, Wishes())
    assert sorted(map(run_key, one.runs)) == sorted(map(run_key, two.runs)) == sorted(map(run_key, runs))
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
        began = time.monotonic()
        done = call("run", name, *asked)
        assert done.returncode == 0, done.stderr
        return time.monotonic() - began

    start = min(seconds("one.yaml") for _ in range(2))
    assert min(seconds("many.yaml") for _ in range(2)) - start < 5


def test_a_run_is_named_by_identity_and_repetition(suite: Path) -> None:
    run = runs_of(suite)["KD"]
    assert run_key(Run(run.experiment, 3)) == f"{run.experiment.identity}-r3"
