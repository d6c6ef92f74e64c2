"""The command lines that README, CONTRIBUTING and docs print, and what tests/test_documented.py runs for each.

As a program it runs the command lines given on its standard input in the working directory, one after the other in one
process, and prints what became of them as JSON. A command line begins with `python`, or is run by the shell.
"""

from __future__ import annotations

import contextlib
import io
import json
import os
import re
import runpy
import shlex
import subprocess
import sys
import traceback
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from unittest import mock

ROOT = Path(__file__).resolve().parent.parent
DOCUMENTS = ("README.md", "CONTRIBUTING.md", *sorted(str(path.relative_to(ROOT)) for path in ROOT.glob("docs/*.md")))

FENCED = re.compile(r"^```(\w*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
CODE = re.compile(r"`([^`]+)`")
OURS = re.compile(r"(python|torchrun|make|pip) ")  # how a command line in running text begins
WISHES = "| you want |"  # a table of commands, or of what one command takes, starts so


def commands() -> dict[str, str]:
    """Return every command line of the documents with the first document that has it."""
    return {command: name for name in reversed(DOCUMENTS) for command in _commands_of((ROOT / name).read_text())}


def _commands_of(text: str) -> Iterator[str]:
    for language, block in FENCED.findall(text):
        if language in ("", "sh", "bash", "console"):
            lines = block.replace("\\\n", " ").splitlines()
            yield from (plain for line in lines if (plain := _plain(line)))
    prose = FENCED.sub("", text)
    yield from (plain for found in CODE.findall(prose) if OURS.match(plain := _plain(found)))
    for table in re.findall(rf"^{re.escape(WISHES)}.*?\n\n", prose, re.MULTILINE | re.DOTALL):
        yield from (found for found in CODE.findall(table) if found.startswith("--"))


def _plain(line: str) -> str:
    """Return a command line without its comment, and as if its environment were activated."""
    return " ".join(re.sub(r"(^|\s)#.*", "", line).split()).removeprefix(".venv/bin/")


@dataclass(frozen=True)
class Try:
    """One command line that is run to test a documented one, which replaces `{}`."""

    line: str = "{}"
    code: int = 0
    bare: int | None = None  # the exit code without the packages of [dense], where it is another
    slow: bool = False
    once: bool = False  # takes long, and the packages of [dense] make no difference: tried with them alone
    says: str = ""  # what the output holds, where the exit code alone says little


DRY = Try("{} --dry-run")
DETECTOR = Try("python -m benchmark show model retinanet_r50_fpn", bare=3)
NEEDS_MORE = Try(code=2, says="usage:")  # named in running text without its arguments
JOBS = "python -m benchmark run table9 --launcher slurm {} --dry-run"
SMOKE = "python -m benchmark run {} --profile smoke --device cpu --threads 1"
PAIR = "--teacher torchvision:regnet_y_400mf --student timm:resnet10t --data images --out student.pt"
SMALL = "--epochs 1 --batch 8 --lr 0.01 --image-size 64 --threads 1 --device cpu"
DISTIL = f"python -m benchmark distill {PAIR} --method 'diffkd: {{latent: 16, nfe: 1}}' {SMALL}"

NOT_RUN = {
    "git clone <this repository> && cd diffkd-benchmark": "who reads this has it",
    "export BENCHMARK_DATA=/shared/data": "the shell's",
    "rsync -a one.example.org:benchmark/results/ results-one/": "needs the other machine",
    "rsync -a two.example.org:benchmark/results/ results-two/": "needs the other machine",
}

TRIES: dict[str, tuple[Try, ...]] = {
    # what make would do is its own dry run; .ci/run does it
    **{f"make {target}": (Try(f"make --dry-run {target}"),) for target in ("run", "test", "setup", "lint")},
    "make run TORCH_INDEX=URL": (Try("make --dry-run VENV=nowhere run TORCH_INDEX=URL", says="--index-url URL torch"),),
    # README
    "python -m benchmark report --compare paper": (Try(says="written to reports/paper/index.html"),),
    "python -m benchmark verify": (Try("{} --check", slow=True, once=True),),
    "python -m benchmark verify claims": (Try(once=True),),
    "python -m benchmark verify sources": (Try(once=True, says="0 contradictions"),),
    "python -m benchmark plan table9": (Try(),),
    "python -m benchmark run table9": (DRY, Try("{}", code=3, says="--profile smoke")),
    "python -m benchmark run table9 --only DiffKD --only 'resnet56-*'": (DRY,),
    "python -m benchmark run table3 --variant paper": (DRY, Try("{}", code=3, says="--profile smoke")),
    "python -m benchmark run table9 --profile smoke --only '*resnet20'": (
        DRY,
        Try(SMOKE.format("table9 --only '*/KD/*ResNet-20'"), slow=True),
    ),
    "python -m benchmark run table2 --data-dir /data/imagenet": (DRY, Try(code=3, says="/data/imagenet")),
    "python -m benchmark run table4 --data-dir COCO_FOLDER": (
        DRY,
        Try(f"{SMOKE.format('table4')} --only '*/One-stage*/DiffKD/*'", bare=3, slow=True),
    ),
    # what it makes possible; `make setup` in .ci/run installs it
    "pip install '.[dense]' -c constraints.txt": (DETECTOR,),
    "pip install '.[dense]'": (DETECTOR,),
    "python -m benchmark run table6 --data-dir CITYSCAPES_FOLDER": (DRY,),
    "python -m benchmark report --figure 4": (Try(once=True, says="written to reports/figure4-mini-figures.svg"),),
    "python -m benchmark report --figure 2 --suite table4": (Try(code=3, says="fix:"),),
    "python -m benchmark doctor": (Try(),),
    "python -m benchmark status table9": (Try(),),
    "python -m benchmark run suites/*.yaml --launcher slurm --partition gpu": (DRY,),
    "python -m benchmark plan suites/*.yaml --gpus 8 --gpus 64": (Try(says="64 GPUs"),),
    "python -m benchmark bench --speed": (
        Try("{} kd --pair resnet14-resnet8 --batch 4 --rounds 1 --device cpu --threads 1", slow=True, once=True),
    ),
    "python -m benchmark run table9 --pack auto": (
        DRY,
        Try(SMOKE.format("table9 --pack auto --only '*/[DM]*/*ResNet-20'"), slow=True, once=True),
    ),
    "python -m benchmark.bench.dense table4 --only DiffKD --profile paper": (
        Try(code=3, says="fix:"),
        Try(
            "python -m benchmark.bench.dense table4 --only '*/One-stage*/DiffKD/*' --steps 1 --device cpu",
            bare=3,
            slow=True,
        ),
    ),
    "python -m benchmark eval resnet56 --data cifar100 --weights FILE --published 72.34": (
        Try(code=3, says="FILE"),
        Try("python -m benchmark eval timm:resnet10t --data images --weights timm.pt --device cpu", slow=True),
    ),
    "python -m benchmark distill --teacher torchvision:regnet_y_400mf --student timm:resnet10t --data FOLDER"
    " --out student.pt": (Try(code=3, says="FOLDER"), Try(DISTIL, slow=True)),
    "python -m benchmark export IDENTITY --out student.pt": (
        Try(code=2, says="IDENTITY"),
        Try("python -m benchmark export runs/records/*/*/*/kd-*/r0.json --out exported.pt", slow=True),
    ),
    "python -m benchmark rerun RECORD": (
        Try(code=2, says="RECORD"),
        Try("python -m benchmark rerun runs/records/*/*/*/kd-*/r0.json", slow=True),
    ),
    # CONTRIBUTING
    "python -m benchmark bridge": (Try("{} --from nowhere", code=3, says="no revision nowhere"),),
    "python -m benchmark list data": (Try(says="imagenet"),),
    "python -m benchmark show method cosine": (Try("BENCHMARK_EXTRA=mine {}", says="cosine"),),
    "python -m benchmark show model tiny8": (Try("BENCHMARK_EXTRA=mine {}", says="multiply-adds"),),
    "python -m benchmark show schema > suite.schema.json": (Try("python -m benchmark show schema", says="$defs"),),
    "python -m benchmark plan mine": (Try("python -m benchmark plan mine.yaml"),),
    # docs/cluster.md
    "python -m benchmark plan table9 --gpus 8": (Try(says="8 GPUs"),),
    "python -m benchmark run table9 --launcher slurm --partition gpu --gpus 1 --dry-run": (
        Try(says="1 process a run"),
    ),
    "python -m benchmark run table9 --launcher slurm --partition gpu --gpus 1": (DRY,),
    "python tests/launch/slurm/cluster.py up FOLDER": (
        Try("python tests/launch/slurm/cluster.py", code=2),
    ),  # tests/launch/slurm use it
    "python -m benchmark report --compare paper --results-dir results-one --results-dir results-two": (
        Try(slow=True, says="written to reports/paper/index.html"),
    ),
    "python -m benchmark collect THEIR_FOLDER --from some-lab --spot-check 2": (
        Try(code=2, says="THEIR_FOLDER"),
        Try("python -m benchmark collect results --from some-lab", says="were here already"),
    ),
    "python -m benchmark rerun results-one --sample 3 --hours 2": (Try(code=5, says="3 could not be rerun"),),
    "python -m benchmark plan suites/*.yaml --gpus 1 --gpus 8 --gpus 64": (Try(says="64 GPUs"),),
    "--slurm account=vision --slurm qos=preemptable --slurm mem=32G": (Try(JOBS.format("{}")),),
    "--max-parallel 16": (Try(JOBS.format("{}")),),
    "--minutes 240": (Try(JOBS.format("{}"), says="240 min"),),
    "--batch-minutes 30": (Try(JOBS.format("{}")),),
    "--gpus 4": (Try(JOBS.format("{} --nodes 2"), says="4 processes a run"),),
    "--nodes 2": (Try(JOBS.format("--gpus 4 {}"), says="4 processes a run"),),
    "--gpus 0": (Try(JOBS.format("{}"), says="on one cpu"),),
    "--device cpu": (Try(JOBS.format("{}"), says="on one cpu"),),
    "--cpus 4": (Try(JOBS.format("{}")),),
    "--launcher local": (Try("python -m benchmark run table9 {} --device cpu --dry-run"),),
    "--launcher debug": (Try("python -m benchmark run table9 {} --device cpu --dry-run"),),
    # docs/findings.md
    "python -m benchmark report --compare paper --suite mini-choice --suite mini-teacher --suite mini-cifar100"
    " --out reports/mini-cifar100": (Try(once=True, says="written to reports/mini-cifar100/index.html"),),
    "python -m benchmark report --figure 4 --suite mini-figures --out reports/mini-figures": (
        Try(once=True, says="written to reports/mini-figures/figure4-mini-figures.svg"),
    ),
    "python -m benchmark report --figure 5 --suite mini-figures --out reports/mini-figures": (
        Try(once=True, says="written to reports/mini-figures/figure5-7f8d1714949c132c.svg"),
    ),
    "python -m benchmark run mini-figures --results-dir again/results --runs-dir again/runs": (DRY,),
    "python -m benchmark report --figure 6 --suite mini-figures --results-dir again/results --runs-dir again/runs"
    " --out reports/mini-figures": (Try(code=3, says="fix:"),),
    "python -m benchmark run choice-cifar100 --pack auto": (DRY,),
    "python -m benchmark run core-cifar100 --pack auto --only 'resnet56-*' --seeds 5": (DRY,),
    "python -m benchmark run core-cifar100 --pack auto --only 'wrn_40_2-*'": (DRY,),
    # docs/imagenet.md
    "python -m benchmark run table2 --profile smoke": (
        DRY,
        Try(f"{SMOKE.format('table2')} --only 'table2/R18*/KD'", slow=True, once=True),
    ),
    "torchrun --nproc_per_node 8 -m benchmark run table2 --data-dir /data/imagenet": (
        Try("torchrun --nproc_per_node 2 -m benchmark run table2 --dry-run --device cpu", slow=True, once=True),
    ),
    "torchrun --nproc_per_node 2 -m benchmark run table7 --profile smoke --only 'KL div.' --device cpu": (
        Try(slow=True, once=True),
    ),
    "python -m benchmark eval resnet56 --data cifar100 --weights FILE --published 66.41": (Try(code=3, says="FILE"),),
    "python -m benchmark eval timm:resnet50.a1_in1k --data imagenet --data-dir /data/imagenet": (Try(code=3),),
    "python -m benchmark distill --teacher torchvision:regnet_y_400mf --student timm:resnet10t"
    " --method 'diffkd: {latent: 64}' --data pets --recipe B1 --epochs 2 --batch 16 --lr 0.01 --image-size 64"
    " --out student.pt": (Try(code=3, says="pets"),),
    # docs/performance.md and docs/verdicts.md
    "python docs/measure_step.py": (Try("{} --pairs 1 --threads 1 --eager", slow=True, once=True),),
    "python -m benchmark.bench.dense": (NEEDS_MORE,),
}


@dataclass(frozen=True)
class Done:
    """The outcome of a command line."""

    line: str
    code: int
    shown: str  # on both streams


def done(line: str) -> Done:
    """Run a command line to its end: Python commands in this process, so that torch is imported once."""
    words = [name for word in shlex.split(line) for name in _matching(word)]
    settings = {}
    while "=" in words[0]:
        name, _, value = words.pop(0).partition("=")
        settings[name] = value
    shown = io.StringIO()
    with mock.patch.dict(os.environ, settings), contextlib.redirect_stdout(shown), contextlib.redirect_stderr(shown):
        code = _python(words[1:]) if words[0] == "python" else _other(words)
    return Done(line, code, shown.getvalue())


def _matching(word: str) -> list[str]:
    """Return the files that match a pattern, as a shell would, or the word itself if there are none."""
    return (sorted(map(str, Path().glob(word))) if "*" in word else []) or [word]


def _python(words: list[str]) -> int:
    module = words[0] == "-m"
    name, *rest = words[module:]
    with mock.patch.object(sys, "argv", [name, *rest]):
        try:
            if module:
                runpy.run_module(name, run_name="__main__", alter_sys=True)
            else:
                runpy.run_path(name, run_name="__main__")
        except SystemExit as end:
            return end.code if isinstance(end.code, int) else int(end.code is not None)
        except Exception:
            traceback.print_exc()
            return 1
    return 0


def _other(words: list[str]) -> int:
    if words[0] == "torchrun":
        words = [sys.executable, "-m", "torch.distributed.run", "--standalone", *words[1:]]
    ended = subprocess.run(words, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False)
    print(ended.stdout)
    return ended.returncode


if __name__ == "__main__":
    found = [vars(done(line)) for line in sys.stdin.read().splitlines()]
    print(json.dumps(found))
