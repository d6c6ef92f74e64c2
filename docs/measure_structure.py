"""Measure the structure of this checkout, or of another one: sizes, uses of Any, modules on the way to a record.

python docs/measure_structure.py
python docs/measure_structure.py ../an-older-checkout
"""

from __future__ import annotations

import ast
import json
import os
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

HERE = Path(__file__).resolve().parent.parent
# Where OpenMMLab's untyped packages are used, Any is what there is.
SEAMS = (
    "dense",
    "openmmlab",
    "mmcv_ops",
    "mmdet",
    "stack.py",
    "ops.py",
    "tasks/detection",
    "tasks/segmentation",
    "saliency",
    "verify/detectors",
)
OPENED = """
import json, sys
from importlib import import_module
for name in ("benchmark.cli.parser", "benchmark.cli"):  # its place now, and before
    try:
        main = import_module(name).main
        break
    except (ImportError, AttributeError):
        continue
code = main(sys.argv[1:])
print("\\n" + json.dumps([code, sorted(n for n in sys.modules if n.split(".")[0] in ("benchmark", "methods"))]))
"""


def files(root: Path) -> list[Path]:
    """Return the program's python files."""
    return sorted(path for folder in ("benchmark", "methods") for path in (root / folder).rglob("*.py"))


def lengths(paths: list[Path]) -> Iterator[int]:
    """Yield the number of lines of each function and method."""
    for path in paths:
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)):
                yield (node.end_lineno or node.lineno) - node.lineno + 1


def uses_of_any(root: Path, paths: list[Path]) -> int:
    """Count the name `Any` outside of the seams to OpenMMLab, imports left out."""
    outside = [path for path in paths if not any(seam in path.relative_to(root).as_posix() for seam in SEAMS)]
    trees = (ast.parse(path.read_text()) for path in outside)
    return sum(isinstance(node, ast.Name) and node.id == "Any" for tree in trees for node in ast.walk(tree))


def opened(root: Path, *arguments: str) -> int:
    """Count the modules of the program that one command imports, run to its end in an empty folder."""
    with tempfile.TemporaryDirectory() as folder:
        environment = os.environ | {"PYTHONPATH": str(root), "BENCHMARK_OFFLINE": "1", "BENCHMARK_DATA": folder}
        done = subprocess.run(
            [sys.executable, "-c", OPENED, *arguments], cwd=folder, env=environment, capture_output=True, text=True
        )
    code, modules = json.loads(done.stdout.splitlines()[-1])
    if code:
        raise SystemExit(f"{' '.join(arguments)} ended with {code}:\n{done.stderr}")
    return len(modules)


def main() -> None:
    """Print one line for each measure."""
    root = Path(sys.argv[1]).resolve() if len(sys.argv) > 1 else HERE
    paths = files(root)
    by_length = sorted(lengths(paths))
    longest = max(paths, key=lambda path: len(path.read_text().splitlines()))
    smoke = ("run", str(root / "suites" / "smoke.yaml"), "--only", "KD", "--threads", "1", "--device", "cpu", "--yes")
    compared = ("report", "--compare", "paper", "--results-dir", str(root / "results"), "--suite", "mini-cifar100")
    print(f"files                         {len(paths)}")
    print(f"flat modules in benchmark/    {len(list((root / 'benchmark').glob('[!_]*.py')))}")
    print(f"longest file                  {len(longest.read_text().splitlines())} lines, {longest.relative_to(root)}")
    print(f"functions                     {len(by_length)}")
    middle, most = statistics.median(by_length), by_length[len(by_length) * 95 // 100]
    print(f"  median, 95th, longest       {middle:g}, {most}, {by_length[-1]} lines")
    print(f"uses of Any outside the seams {uses_of_any(root, paths)}")
    print(f"modules from run to a record  {opened(root, *smoke)}")
    print(f"modules from cells to verdict {opened(root, *compared)}")


if __name__ == "__main__":
    main()
