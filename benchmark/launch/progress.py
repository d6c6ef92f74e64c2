"""The display of progress: a bar with an estimate on a terminal, plain lines elsewhere."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace

from benchmark.machine.saying import seldom
from benchmark.train.settings import Progress, Settings


@contextmanager
def reporting(settings: Settings, runs: int) -> Iterator[Settings]:
    """Yield a copy of the settings whose `say` and `progress` draw a bar on a terminal, or print lines to a file."""
    if not sys.stdout.isatty():
        say = seldom(_plain_say)
        yield replace(
            settings, say=_plain_say, progress=lambda progress: say(f"{progress.run.label}: {_note(progress)}")
        )
        return
    from rich.console import Console
    from rich.progress import BarColumn, TextColumn
    from rich.progress import Progress as Bar

    console = Console(highlight=False)
    columns = (TextColumn("{task.description}"), BarColumn(), TextColumn("{task.fields[note]}"))
    with Bar(*columns, console=console, transient=True) as bar:
        whole = bar.add_task(f"{runs} runs", total=runs, note="")
        current = bar.add_task("", total=1.0, note="", visible=False)
        seen: set[str] = set()

        def show(progress: Progress) -> None:
            seen.add(progress.run.label)
            bar.update(whole, completed=len(seen) - 1, note=f"{len(seen)} of {runs}")
            done = (progress.epoch - 1 + progress.step / progress.steps) / progress.epochs
            bar.update(current, description=progress.run.label, completed=done, note=_note(progress), visible=True)

        yield replace(settings, say=lambda text: console.print(text, markup=False), progress=show)


def _note(progress: Progress) -> str:
    metrics = f", top-1 {progress.metrics['top1']:.2f}" if "top1" in progress.metrics else ""
    left = duration(progress.seconds_left)
    return f"epoch {progress.epoch}/{progress.epochs}{metrics}, {progress.images_per_second:,.0f} images/s, {left} left"


def _plain_say(text: str) -> None:
    print(text, flush=True)


def duration(seconds: float) -> str:
    """Format seconds as `45 s`, `12 min`, `3.5 h` or `2.1 days`."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    if seconds < 90 * 60:
        return f"{seconds / 60:.0f} min"
    if seconds < 48 * 3600:
        return f"{seconds / 3600:.1f} h"
    return f"{seconds / 86400:.1f} days"
