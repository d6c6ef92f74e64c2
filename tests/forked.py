"""The command line in processes that start at once: forks of one that has loaded all they need.

For tests that start it again and again to kill it. Each is a process like any other, with an id, signals and an exit
code; only importing torch and drawing the generated images, some five seconds, are not done for each.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import tempfile
import threading
import time
import traceback
import warnings
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import Any, NoReturn


class Forked:
    """One process, in this folder or another; what it prints is in a file, or in one for its errors too."""

    def __init__(
        self,
        arguments: Sequence[str],
        log: Path | None = None,
        errors: Path | None = None,
        folder: Path | None = None,
        **environ: str,
    ) -> None:
        from small import environment

        files = [os.devnull, *(str(file.resolve() if file else os.devnull) for file in (log, errors or log))]
        for file in files[1:]:
            Path(file).open("w").close()  # whoever looks may do so at once
        where = {"folder": str(folder or Path.cwd()), "environment": environment(**environ)}
        self.pid: int = _ask({"arguments": list(arguments), "files": files} | where)
        self.returncode: int | None = None

    def poll(self) -> int | None:
        """Its exit code, or minus the signal that ended it; None while it runs."""
        if self.returncode is None:
            status = _ask({"poll": self.pid})
            self.returncode = None if status is None else os.waitstatus_to_exitcode(status)
        return self.returncode

    def wait(self, seconds: float) -> int | None:
        """The same, after it has ended or after some time."""
        until = time.monotonic() + seconds
        while self.poll() is None and time.monotonic() < until:
            time.sleep(0.002)
        return self.returncode

    def kill(self) -> int:
        """SIGKILL, wherever it is, unless it has ended; its exit code."""
        if self.poll() is None:
            os.kill(self.pid, signal.SIGKILL)
        found = self.wait(60)
        assert found is not None
        return found


def call(*arguments: str, seconds: float = 300, **more: Any) -> subprocess.CompletedProcess[str]:
    """Run a command to its end, as `small.call` does."""
    with tempfile.TemporaryDirectory() as folder:
        out, err = Path(folder, "out"), Path(folder, "err")
        process = Forked(arguments, out, err, **more)
        if process.wait(seconds) is None:
            process.kill()
        assert process.returncode is not None
        return subprocess.CompletedProcess(arguments, process.returncode, out.read_text(), err.read_text())


_TURN = threading.Lock()


@cache
def _origin() -> subprocess.Popen[str]:
    """The process that others are forks of: it ends with its standard input, that is with this one."""
    from small import environment

    return subprocess.Popen(
        [sys.executable, __file__], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=environment()
    )


def _ask(question: dict[str, Any]) -> Any:
    with _TURN:
        origin = _origin()
        assert origin.stdin is not None and origin.stdout is not None
        print(json.dumps(question), file=origin.stdin, flush=True)
        return json.loads(origin.stdout.readline())


def _answer_all() -> None:
    """In that process: load, then fork for each start that is asked for, and say what became of a fork."""
    from benchmark.machine.process import settle

    settle()  # as the command line does, before torch is loaded
    import submitit  # noqa: F401

    from benchmark.cli import run  # noqa: F401
    from benchmark.data import generated
    from benchmark.launch import local  # noqa: F401
    from benchmark.models import openmmlab

    if not openmmlab.missing():
        openmmlab.prepare()
    generated.generate = cache(generated.generate)
    generated.generate()
    alive = set[int]()
    for line in sys.stdin:
        question = json.loads(line)
        if "poll" in question:
            pid, answer = os.waitpid(question["poll"], os.WNOHANG)
            alive.discard(pid)
            print(json.dumps(answer if pid else None), flush=True)
        else:
            alive.add(pid := os.fork() or _be(question))
            print(pid, flush=True)
    for pid in alive:
        os.kill(pid, signal.SIGKILL)


def _be(question: dict[str, Any]) -> NoReturn:
    """In the fork: the command line, to its end."""
    from benchmark.cli.parser import main

    code = 1
    try:
        for descriptor, (file, mode) in enumerate(zip(question["files"], "raa", strict=True)):
            with Path(file).open(mode) as opened:
                os.dup2(opened.fileno(), descriptor)
        os.environ.clear()
        os.environ.update(question["environment"])
        os.chdir(question["folder"])
        warnings.simplefilter(os.environ["PYTHONWARNINGS"])  # type: ignore[arg-type]
        code = main(question["arguments"])
    except SystemExit as asked:  # of the parser
        code = int(asked.code or 0)
    except BaseException:
        traceback.print_exc()
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)


if __name__ == "__main__":
    _answer_all()
