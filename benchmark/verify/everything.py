"""All checks in order, and a cache that makes a repeated call fast."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

from benchmark.errors import CannotServe
from benchmark.machine.files import write_text
from benchmark.machine.plugins import ROOT
from benchmark.machine.provenance import packages, python_files
from benchmark.machine.rooms import reached_by
from benchmark.machine.saying import Say
from benchmark.machine.shipped import SUITES
from benchmark.models import counting
from benchmark.paper.suite import Suite, method_of
from benchmark.verify import claim_check, cost_check, detectors, exported_students, method_cost, pairs, sources
from benchmark.verify.findings import Findings, SideCost
from methods.registry import methods
from methods.spec import MethodSpec

STUDENT, TEACHER, DATA = "resnet18", "resnet34", "imagenet"  # the pair of section C.6


def verify(full: bool, say: Say) -> Findings:
    """Run every check that needs no training."""
    findings = Findings(conventions=_described())
    suites = pairs.lint(findings)
    say(f"{len(suites)} manifests read")
    pairs.resolve(findings, suites)
    sources.add_sources(findings)
    cost_check.add_networks(findings, suites, full, say)
    detectors.add_detectors(findings, suites, say)
    cost_check.add_cells(findings, suites, say)
    _add_side_costs(findings, suites, say)
    exported_students.check(findings, say)
    claim_check.add_claims(findings)
    pairs.build(findings, suites, say)
    return findings


def _described() -> dict[str, dict[str, str]]:
    return {
        name: {"counts": convention.counts, "right": convention.right, "wrong": convention.wrong}
        for name, convention in counting.CONVENTIONS.items()
    }


def _add_side_costs(findings: Findings, suites: list[Suite], say: Say) -> None:
    """Add the cost of every method on one pair. Options are those of section C.6, or the defaults."""
    stated = {
        spec.name: spec
        for suite in suites
        if suite.name == "section_c6"
        for spec in (method_of(cell.setting) for cell in suite.cells)
    }
    pair = method_cost.pair_on_meta(STUDENT, TEACHER, DATA)
    findings.side_pair = f"{TEACHER} -> {STUDENT}, {DATA}, batch {cost_check.SIDE_BATCH}"
    for name in methods():
        say(f"counting {name}")
        try:
            method = method_cost.build_on_meta(stated.get(name, MethodSpec.parse(name)).make(), pair)
            found = method_cost.method_cost(method, pair, cost_check.SIDE_BATCH)
        except CannotServe as reason:
            findings.skip(f"cost of {name}", reason.message)
            continue
        findings.side.append(SideCost(name, found.parameters, found.forward, found.backward))


def cached(folder: Path, full: bool, fresh: bool, say: Say) -> Findings:
    """Return the findings for the current code, suites and packages: from the cache, or else by running the checks."""
    path = folder / "verify" / f"{_key(full)}.json"
    if not fresh:
        try:
            return Findings.from_json(json.loads(path.read_text(encoding="utf-8")))
        except (OSError, ValueError):
            pass  # no cache, or one that was cut off
    findings = verify(full, say)
    write_text(path, json.dumps(findings.as_json()))
    return findings


def _key(full: bool) -> str:
    digest = hashlib.sha256(json.dumps([packages(), full], sort_keys=True).encode())
    decisive = [path for place in reached_by("verify") for path in python_files(ROOT / place)]
    for path in sorted([*decisive, *SUITES.rglob("*.yaml")]):
        digest.update(path.relative_to(ROOT).as_posix().encode() + b"\0" + path.read_bytes() + b"\0")
    return digest.hexdigest()[:16]
