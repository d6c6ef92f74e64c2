"""Every command gets a typed request, with a field for each of its arguments and no other."""

from __future__ import annotations

import argparse
from dataclasses import fields
from pathlib import Path

import pytest

from benchmark.cli.parser import parser
from benchmark.cli.requests import REQUESTS, Run, Show, request_of


def commands() -> dict[str, argparse.ArgumentParser]:
    (found,) = (action for action in parser()._actions if isinstance(action, argparse._SubParsersAction))
    return dict(found.choices)


@pytest.mark.parametrize("name", sorted(commands()))
def test_a_request_has_the_arguments_of_its_command(name: str) -> None:
    arguments = {action.dest for action in commands()[name]._actions} - {"help"}
    assert {field.name for field in fields(REQUESTS[name])} == arguments


def test_no_request_is_without_a_command() -> None:
    assert REQUESTS.keys() == commands().keys()


def test_a_command_line_becomes_a_request() -> None:
    line = ["run", "table9", "--only", "KD", "--variant", "paper", "--seeds", "2", "--pack", "auto", "--data-dir", "x"]
    found = request_of(parser().parse_args(line))
    assert isinstance(found, Run)
    assert (found.suites, found.only, found.variants, found.seeds) == (["table9"], ["KD"], ["paper"], 2)
    assert (found.pack, found.data_dir, found.results_dir) == (None, Path("x"), Path("results"))
    shown = request_of(parser().parse_args(["show", "method", "kd"]))
    assert isinstance(shown, Show)
    assert (shown.what, shown.name, shown.json) == ("method", "kd", False)
