"""A flag that signal handlers set: two signals at once do not wait for each other."""

from __future__ import annotations

import os
import signal
import time

from benchmark.launch.stopping import Flag, noting


def test_signals_only_set_the_flag() -> None:
    flag = Flag()
    before = signal.getsignal(signal.SIGUSR2)
    with noting(flag, signal.SIGUSR2, signal.SIGTERM):
        assert not flag.is_set()
        os.kill(os.getpid(), signal.SIGUSR2)
        os.kill(os.getpid(), signal.SIGTERM)
        assert flag.is_set()
        assert flag.number == signal.SIGUSR2
    assert signal.getsignal(signal.SIGUSR2) is before


def test_thousands_of_signals_at_once_do_not_hang() -> None:
    """Show that with threading.Event a second signal would wait for the lock that the first handler holds."""
    flag = Flag()
    with noting(flag, signal.SIGUSR1, signal.SIGUSR2, signal.SIGALRM):
        signal.setitimer(signal.ITIMER_REAL, 1e-4, 1e-4)
        deadline = time.monotonic() + 0.5
        try:
            while time.monotonic() < deadline:
                flag.clear()
                flag.set()
                flag.wait(0.001)
                os.kill(os.getpid(), signal.SIGUSR1)
                os.kill(os.getpid(), signal.SIGUSR2)
        finally:
            signal.setitimer(signal.ITIMER_REAL, 0)
    assert flag.is_set()


def test_waiting_ends_when_somebody_asks_and_when_nobody_does() -> None:
    flag = Flag()
    assert not flag.wait(0.01)
    flag.set()
    began = time.monotonic()
    assert flag.wait(60)
    assert time.monotonic() - began < 1
