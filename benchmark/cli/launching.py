"""`run --launcher`: submit the jobs of a plan, and wait for them if asked to."""

from __future__ import annotations

import sys
import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import fields
from functools import partial

from benchmark.cli import requests
from benchmark.cli.planning import store_of
from benchmark.data.locate import DataSource
from benchmark.errors import UsageError
from benchmark.launch.jobs import Array, Job, Wishes, arrays_of, refuse_several, shared_out, to_do
from benchmark.launch.states import State, States
from benchmark.launch.submissions import Submission
from benchmark.plan.experiment import Experiment, Plan, Run
from benchmark.records.store import Store

LOOK_SECONDS = 5.0
LONGEST_WAIT = 60 * 24 * 3600.0  # seconds, two months: a job that is still queued then will not run


def launched(arguments: requests.Run, plan: Plan, source: DataSource | None, device: str) -> int:
    """Submit the runs that are pending and not submitted yet. Return the exit code."""
    from benchmark.launch.progress import duration
    from benchmark.plan.estimate import seconds

    store = store_of(arguments)
    states = States(store)
    missing = to_do(plan, store)
    queued = {run.key: job for run in missing if (job := states.job_of(run)) is not None}
    runs = [run for run in missing if run.key not in queued]
    done = len(plan.runs) - len(runs) - len(queued)
    estimate = partial(seconds, device=device.split(":")[0])
    spent = sum(estimate(run.experiment) for run in runs)
    print(
        f"{len(plan.runs)} runs of {len(plan.experiments)} experiments, {done} done, {len(queued)} submitted before, "
        f"{len(runs)} to submit: roughly {duration(spent)} on one {device.split(':')[0]}"
    )
    if runs:
        arrays = _jobs(arguments, runs, estimate, queued, device)
        _print_jobs(arrays)
        if arguments.dry_run:
            return 0
        from benchmark.cli.planning import ask

        ask(spent / 3600, arguments)
        submission = _submit(arguments, plan, arrays, store, source, device)
        if submission is not None:
            print(f"\nsubmitted as {submission.name}: {len(submission.jobs)} jobs, {len(runs)} runs")
            print(f"  code and logs: {submission.code}, {store.runs / 'jobs' / submission.name}")
            print(f"  follow it: python -m benchmark status; end it: python -m benchmark cancel {submission.name}")
    if arguments.dry_run:
        return 0
    if arguments.wait:
        waited(plan, store)
    return _verdict(plan, store) if arguments.wait or arguments.launcher == "debug" else 0


def _jobs(
    arguments: requests.Run,
    runs: Sequence[Run],
    estimate: Callable[[Experiment], float],
    queued: dict[str, str],
    device: str,
) -> list[Array]:
    wishes = Wishes(
        ranks=arguments.ranks or (arguments.gpus or None),
        minutes=arguments.minutes,
        batch_minutes=arguments.batch_minutes,
        max_parallel=arguments.max_parallel,
    )
    _refuse_several(arguments, runs)
    if arguments.launcher == "slurm":
        return arrays_of(runs, estimate, wishes, queued)
    from benchmark.machine.devices import devices_of

    ranks = wishes.ranks or 1
    found = len(devices_of(device, arguments.max_parallel)) // ranks
    places = 1 if arguments.launcher == "debug" else found or arguments.max_parallel or 1
    return [Array(tuple(shared_out(runs, places, estimate, wishes)), ranks, 0)]


def _refuse_several(arguments: requests.Run, runs: Sequence[Run]) -> None:
    """Raise if flags ask for several processes for a run of a dense task."""
    flags = {"ranks" if arguments.ranks else "gpus": arguments.ranks or arguments.gpus or 1, "nodes": arguments.nodes}
    if given := " ".join(f"--{name} {count}" for name, count in flags.items() if count > 1):
        refuse_several(runs, given, f"leave out {given}, or name only suites of classification")


def _print_jobs(arrays: Sequence[Array]) -> None:
    from benchmark.launch.progress import duration

    for number, array in enumerate(arrays):
        waits = [f"array {a}" if j is None else f"job {a}.{j}" for a, j in array.after] + list(array.after_jobs)
        needs = f"{array.ranks} process{'es' * (array.ranks > 1)} a run" + (
            f", {array.minutes} min" * (array.minutes > 0)
        )
        print(f"array {number}: {len(array.jobs)} jobs, {needs}" + (f", after {' and '.join(waits)}" if waits else ""))
        for index, job in enumerate(array.jobs):
            print(f"  job {number}.{index}: {len(job.runs)} runs, roughly {duration(job.seconds)}: {_named(job)}")


def _named(job: Job) -> str:
    labels = [run.label for run in job.runs]
    return ", ".join(labels[:3]) + (f", ... {labels[-1]}" if len(labels) > 3 else "")


def _submit(
    arguments: requests.Run,
    plan: Plan,
    arrays: Sequence[Array],
    store: Store,
    source: DataSource | None,
    device: str,
) -> Submission | None:
    from benchmark.launch.launcher import Resources, Submitting
    from benchmark.machine.devices import devices_of
    from benchmark.train.settings import Request, Settings

    store.prepare()
    # Every argument that has the name of a field of Settings, so that a job trains with the settings `run` would use.
    names = {field.name for field in fields(Settings)}
    settings = {name: value for name, value in vars(arguments).items() if name in names}
    request = Request.of(plan, sys.argv[1:])
    settings |= {"asked": {"device": arguments.device}, "source": source, "request": request}
    resources = Resources(
        device=device,
        partition=arguments.partition,
        cpus=arguments.cpus or arguments.threads or (4 if device.startswith("cuda") else 1),
        nodes=arguments.nodes,
        max_parallel=arguments.max_parallel,
        requeues=arguments.requeues,
        slurm=dict(arguments.slurm),
    )
    assert arguments.launcher is not None
    submitting = Submitting(store, arguments.launcher, resources, partial(Settings, **settings), sys.argv[1:])
    if arguments.launcher == "slurm":
        return submitting.to_slurm(arrays)
    jobs = [job for array in arrays for job in array.jobs]
    if arguments.launcher == "local":
        return submitting.to_this_machine(jobs, devices_of(device, None))
    submitting.to_this_process(jobs)
    return None


def waited(plan: Plan, store: Store) -> None:
    """Wait until no run of the plan is queued or running. Print a line each time the states change."""
    printed: Counter[str] = Counter()
    deadline = time.monotonic() + LONGEST_WAIT
    while True:
        counts = Counter(States(store).of(run).name for run in plan.runs)
        if counts != printed:
            shown = ", ".join(f"{count} {state}" for state, count in sorted(counts.items()))
            print(f"{time.strftime('%H:%M:%S')} {shown}", flush=True)
            printed = counts
        if not counts["queued"] + counts["running"]:
            return
        if time.monotonic() > deadline:
            raise UsageError(
                "after two months of waiting some jobs are still queued or running",
                "python -m benchmark status shows which",
            )
        time.sleep(LOOK_SECONDS)


def _verdict(plan: Plan, store: Store) -> int:
    states = States(store)
    broken: list[tuple[Run, State]] = [
        (run, state) for run in plan.runs if (state := states.of(run)).name not in ("done", "skipped")
    ]
    for run, state in broken:
        print(f"{state.name.upper()} {run.label}: {state.why}", file=sys.stderr)
    return 1 if broken else 0
