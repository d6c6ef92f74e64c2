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
import time
import warnings
from functools import cache
from pathlib import Path
from typing import Any, NoReturn


class Forked:
    """One process; what it prints is in a file."""

    def __init__(self, arguments: list[str], log: Path | None = None) -> None:
        from small import environment

        if log is not None:
            log.write_text("")
        started = {"arguments": arguments, "folder": str(Path.cwd()), "environment": environment()}
        self.pid: int = _ask(started | {"log": str(log.resolve() if log else os.devnull)})
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


@cache
def _origin() -> subprocess.Popen[str]:
    """The process that others are forks of: it ends with its standard input, that is with this one."""
    from small import environment

    return subprocess.Popen(
        [sys.executable, __file__], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=environment()
    )


def _ask(question: dict[str, Any]) -> Any:
    origin = _origin()
    assert origin.stdin is not None and origin.stdout is not None
    print(json.dumps(question), file=origin.stdin, flush=True)
    return json.loads(origin.stdout.readline())


def _answer_all() -> None:
    """In that process: load, then fork for each start that is asked for, and say what became of a fork."""
    from benchmark.process import settle

    settle()  # as the command line does, before torch is loaded
    from benchmark.commands import run  # noqa: F401
    from benchmark.data import generated
    from benchmark.dense import stack
    from benchmark.launch import local  # noqa: F401

    if not stack.missing():
        stack.prepare()
    generated.generate = cache(generated.generate)
    generated.generate()
    for line in sys.stdin:
        question = json.loads(line)
        if "poll" in question:
            pid, status = os.waitpid(question["poll"], os.WNOHANG)
            answer = status if pid else None
        else:
            answer = os.fork() or _be(question)
        print(json.dumps(answer), flush=True)


def _be(question: dict[str, Any]) -> NoReturn:
    """In the fork: the command line, to its end."""
    from benchmark.cli import main

    code = 1
    try:
        with Path(os.devnull).open() as nothing, Path(question["log"]).open("w") as log:
            for file, descriptor in ((nothing, 0), (log, 1), (log, 2)):
                os.dup2(file.fileno(), descriptor)
        os.environ.clear()
        os.environ.update(question["environment"])
        os.chdir(question["folder"])
        warnings.simplefilter("error")
        code = main(question["arguments"])
    except SystemExit as asked:  # of the parser
        code = int(asked.code or 0)
    finally:
        sys.stdout.flush()
        os._exit(code)


if __name__ == "__main__":
    _answer_all()
