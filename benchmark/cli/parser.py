"""The command line: parse, call, print errors. Nothing heavy is imported before a command is chosen."""

from __future__ import annotations

import argparse
import importlib
import os
import sys
from collections.abc import Sequence

from benchmark.cli.arguments import ALL
from benchmark.machine.process import settle

EXIT_CODES = """exit codes:
  0    everything that was asked for is done
  1    a run failed or diverged, or something that a run needs is missing (doctor)
  2    wrong usage: a flag, a name, a suite file, an option
  3    data or weights are missing, or are not the pinned ones
  4    a file or folder cannot be read or written
  5    a check failed (report --fail-on, verify, eval, rerun, bridge)
  130  stopped on request; the same command resumes from the checkpoints"""


def parser() -> argparse.ArgumentParser:
    """Build the parser of the whole command line."""
    root = argparse.ArgumentParser(
        prog="python -m benchmark",
        description="Runs every row of the DiffKD paper and says, number by number, whether it holds.",
        epilog=EXIT_CODES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    commands = root.add_subparsers(dest="command", metavar="COMMAND", required=True)
    for add in ALL:
        add(commands)
    return root


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command, and return the exit code."""
    given = parser().parse_args(arguments)
    settle()
    from benchmark.cli.requests import request_of
    from benchmark.errors import BenchmarkError

    try:
        command = importlib.import_module(f"benchmark.cli.{given.command}")
        code: int = command.main(request_of(given))
        sys.stdout.flush()
        return code
    except BenchmarkError as error:
        print(f"error: {error}", file=sys.stderr)
        return error.exit_code
    except KeyboardInterrupt:
        print("stopped", file=sys.stderr)
        return 130
    except BrokenPipeError:  # the reader of a pipe, such as `head`, has seen enough
        # Python flushes standard output at its end; without this, that flush would raise the same error again.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
