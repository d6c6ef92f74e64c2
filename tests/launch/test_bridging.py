"""`bridge`: two revisions of a small copy of this program side by side, compared by the records that they write."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import subprocess
import time
from pathlib import Path

import pytest
import yaml
from small import ROOT, SETTING, command
from written_records import bridge_between

from benchmark.judge.bridges import BRIDGES, read_bridges, write_bridges

SUITE = {
    "suite": "mini-cifar100",
    "title": "Small",
    "source": "ours",
    "profile": "mini",
    "setting": SETTING,
    "columns": [{"column": "Top-1", "metric": "top1"}],
    "rows": [{"row": "Student", "method": "none"}, {"row": "KD", "method": "kd"}],
}
LOSS = "self.options.weight * term}"
TAPS = "    taps: tuple[str, ...] = (LOGITS,)"
SAME = (TAPS, f"{TAPS}  # computes the same")


@pytest.fixture
def program(tmp_path: Path) -> Path:
    """A copy of this program whose mini study has three experiments: teacher, student, KD. It has no history."""
    place = tmp_path / "program"
    for name in ("benchmark", "methods"):
        shutil.copytree(ROOT / name, place / name, ignore=shutil.ignore_patterns("__pycache__"))
    (place / "suites").mkdir()
    for name in ("profiles", "recipes", "rules"):
        shutil.copy(ROOT / "suites" / f"{name}.yaml", place / "suites")
    (place / "suites" / "mini-cifar100.yaml").write_text(yaml.safe_dump(SUITE, sort_keys=False))
    shutil.copy(ROOT / "pyproject.toml", place)
    return place


@pytest.fixture
def repository(program: Path) -> Path:
    """The same with one commit."""
    (program / ".gitignore").write_text("__pycache__/\n")
    git(program, "init", "--quiet")
    commit(program)
    return program


def git(place: Path, *words: str) -> str:
    who = ("-c", "user.name=somebody", "-c", "user.email=somebody@example.org")
    done = subprocess.run(["git", "-C", str(place), *who, *words], check=True, capture_output=True, text=True)
    return done.stdout.strip()


def commit(place: Path, **edits: tuple[str, str]) -> str:
    for name, (before, after) in edits.items():
        path = place / "methods" / f"{name}.py"
        assert before in path.read_text()
        path.write_text(path.read_text().replace(before, after))
    git(place, "add", "--all")
    git(place, "commit", "--quiet", "--message", "a change")
    return git(place, "rev-parse", "HEAD")


def around(place: Path) -> dict[str, str]:
    temporary = place.parent / "temporary"
    temporary.mkdir(exist_ok=True)
    more = {"PYTHONPATH": str(place), "PYTHONWARNINGS": "error", "BENCHMARK_OFFLINE": "1", "TMPDIR": str(temporary)}
    return {name: value for name, value in os.environ.items() if name != "BENCHMARK_DATA"} | more


def bridge(place: Path, *words: str) -> subprocess.CompletedProcess[str]:
    done = subprocess.run(
        command("bridge", *words), cwd=place, capture_output=True, text=True, env=around(place), timeout=300
    )
    assert not list((place.parent / "temporary").glob("benchmark-bridge-*")), "the checkouts were left behind"
    return done


def file_of(place: Path) -> Path:
    return place / BRIDGES.relative_to(ROOT)


@pytest.mark.slow
def test_equal_bits_make_a_bridge_and_the_next_comparison_starts_from_it(repository: Path) -> None:
    before = git(repository, "rev-parse", "HEAD")
    after = commit(repository, kd=SAME)
    done = bridge(repository, "--from", "HEAD~1")
    assert done.returncode == 0 and "equal bit for bit (kd, none)" in done.stdout, done.stdout + done.stderr
    (found,) = read_bridges(file_of(repository)).entries
    assert found.commits == (before, after) and found.before != found.after
    assert found.methods == {"kd": 1, "none": 2} and not found.differing
    assert (found.task, found.networks, found.computed) == ("classification", "cifar/resnet", "cpu, eager, fp32")
    again = bridge(repository)
    assert again.returncode == 0 and f"a bridge leads to this source, {found.after}" in again.stderr
    assert git(repository, "worktree", "list").count("\n") == 0


@pytest.mark.slow
def test_bits_that_differ_fail_until_they_are_equal_again_or_a_revision_is_raised(repository: Path) -> None:
    commit(repository, kd=(LOSS, f"1.0001 * {LOSS}"))
    done = bridge(repository, "--from", "HEAD~1", "--json")
    assert done.returncode == 5, done.stderr
    (crossing,) = json.loads(done.stdout)
    (differing,) = crossing["differing"]
    assert differing["label"].endswith("/kd #0") and "weights_sha256" in differing["differs"]
    (found,) = read_bridges(file_of(repository)).entries
    assert found.methods == {"none": 2} and found.differing == {"kd": 1}
    assert read_bridges(file_of(repository)).last is None

    written = file_of(repository).read_text()
    commit(repository, kd=(TAPS, f"{TAPS}\n    revision = 2"))
    raised = bridge(repository, "--from", "HEAD~2", "--check")
    assert raised.returncode == 0 and raised.stdout.count("not compared, only") == 2, raised.stdout + raised.stderr
    assert "2 experiments are equal bit for bit (none)" in raised.stdout
    assert file_of(repository).read_text() == written


@pytest.mark.slow
def test_stopped_it_leaves_neither_checkouts_nor_processes(repository: Path) -> None:
    commit(repository, kd=SAME)
    started = subprocess.Popen(
        command("bridge", "--from", "HEAD~1"),
        cwd=repository,
        env=around(repository),
        stderr=subprocess.PIPE,
        text=True,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),  # a background job ignores it
    )
    temporary = repository.parent / "temporary"
    until = time.monotonic() + 60
    while len(list(temporary.rglob("log.txt"))) < 2 and time.monotonic() < until:
        time.sleep(0.1)
    assert len(at_work(temporary)) == 2
    started.send_signal(signal.SIGINT)
    _, said = started.communicate(timeout=60)
    assert started.returncode == 130 and said.endswith("stopped\n"), said
    assert at_work(temporary) == [] and not list(temporary.glob("benchmark-bridge-*"))


def at_work(folder: Path) -> list[str]:
    """Return the processes whose working directory is below a folder."""
    found = []
    for process in Path("/proc").glob("[0-9]*/cwd"):
        with contextlib.suppress(OSError):
            found += [process.parent.name] if process.readlink().is_relative_to(folder) else []
    return found


def test_without_history_ci_says_that_nothing_is_compared(program: Path) -> None:
    done = bridge(program, "--from", "HEAD", "--check")
    assert done.returncode == 0 and "not compared: no revision HEAD" in done.stderr and "has no history" in done.stderr
    assert bridge(program, "--from", "HEAD").returncode == 3


@pytest.mark.slow
def test_a_shallow_clone_says_that_the_bridged_revision_is_missing(repository: Path, tmp_path: Path) -> None:
    first = git(repository, "rev-parse", "HEAD")
    results = file_of(repository)
    write_bridges([bridge_between("1" * 16, "2" * 16, commits=("0" * 40, first))], results)
    commit(repository, kd=SAME)
    shallow = tmp_path / "shallow" / "program"
    subprocess.run(["git", "clone", "--quiet", "--depth", "1", f"file://{repository}", str(shallow)], check=True)
    done = bridge(shallow, "--check")
    assert done.returncode == 0 and f"not compared: no revision {first}" in done.stderr, done.stderr
    assert bridge(shallow).returncode == 3


@pytest.mark.slow
def test_a_source_that_is_not_committed_has_no_bridge(repository: Path) -> None:
    with (repository / "methods" / "kd.py").open("a") as file:
        file.write("# not committed\n")
    done = bridge(repository, "--from", "HEAD")
    assert done.returncode == 2 and "commit it first" in done.stderr
    assert not file_of(repository).exists()
