"""The command line in processes that start at once, as forks of a process that has loaded everything.

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
    """A process in a folder. Its output is in a file; its errors are in the same file or in a second one."""

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
        """Return the exit code, or minus the number of the signal that ended the process; None while it runs."""
        if self.returncode is None:
            status = _ask({"poll": self.pid})
            self.returncode = None if status is None else os.waitstatus_to_exitcode(status)
        return self.returncode

    def wait(self, seconds: float) -> int | None:
        """Wait for the process to end, at most so many seconds. Return the exit code; None if it still runs."""
        until = time.monotonic() + seconds
        while self.poll() is None and time.monotonic() < until:
            time.sleep(0.002)
        return self.returncode

    def kill(self) -> int:
        """Send SIGKILL unless the process has ended, and return the exit code."""
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
    """Start the process that is forked. It ends when its standard input closes, which is when this process ends."""
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
    """In the forked process: load everything, fork for each request, and report how forks end."""
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
    """In a fork: run the command line to its end."""
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
