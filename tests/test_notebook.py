"""The names of `import benchmark`: the example of docs/notebook.md as printed."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest
from small import ROOT, environment

import benchmark

PAGE = (ROOT / "docs" / "notebook.md").read_text()
(EXAMPLE,) = re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL)


@pytest.mark.slow
def test_the_example_of_the_page_runs(workplace: Path, capsys: pytest.CaptureFixture[str]) -> None:
    known: dict[str, object] = {}
    exec(compile(EXAMPLE, "docs/notebook.md", "exec"), known)
    printed = capsys.readouterr().out
    assert f"{len(known['plan'].runs)} done, 0 failed" in printed  # type: ignore[attr-defined]
    table, verdicts = known["table"], known["verdicts"]
    assert set(table["status"]) == {"done"} and len(table) == len(known["plan"].runs)  # type: ignore[index, arg-type, attr-defined]
    assert "not comparable" in set(verdicts["verdict"])  # type: ignore[index]


def test_the_page_names_what_the_package_offers() -> None:
    named = set(re.findall(r"`(\w+)(?:\(|`|\.frame)", PAGE.split("| name |")[1]))
    assert set(benchmark.__all__) <= named
    assert all(getattr(benchmark, name).__doc__ for name in benchmark.__all__)
    with pytest.raises(AttributeError, match="it offers BenchmarkError, "):
        benchmark.nothing  # noqa: B018


def test_importing_the_package_loads_nothing_else() -> None:
    heavy = "('benchmark', 'torch', 'pandas')"
    code = f"import sys, benchmark; print(sorted(n for n in sys.modules if n.split('.')[0] in {heavy}))"
    done = subprocess.run([sys.executable, "-c", code], env=environment(), capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "['benchmark']"


def test_a_plan_of_the_package_is_that_of_the_command_line(workplace: Path, capsys: pytest.CaptureFixture[str]) -> None:
    import json

    from benchmark.cli.parser import main

    for profile in ("paper", "smoke"):
        plan = benchmark.make_plan(benchmark.load_suites("table9"), profile=profile)  # type: ignore[arg-type]
        assert main(["plan", "table9", "--profile", profile, "--json"]) == 0
        told = json.loads(capsys.readouterr().out)
        assert [run.experiment.identity for run in plan.runs] == [line["experiment"] for line in told]
