"""A revision of a method computes what it always did: losses and gradients at fixed seeds, as data.

Records name the revision that they ran under. A method that computes something else under the same revision would have
its old records taken for its new numbers.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch
import yaml
from trials import PAIRS, Trial, moment

from methods.registry import MethodEntry, methods

FILE = Path("tests/pinned/losses.yaml")
PINNED: dict[str, dict[int, dict[str, dict[str, float]]]] = yaml.safe_load(
    (Path(__file__).parents[2] / FILE).read_text()
)
CLOSE = 1e-6  # relative; in float64 CPUs differ by a fifth of it, since some draws are of float32
ENTRIES = methods()


def computed(entry: MethodEntry) -> dict[str, dict[str, float]]:
    """By pair and term, and the length of the gradient: a stopped gradient leaves every loss as it is."""
    found = {}
    for pair in PAIRS:
        try:
            trial = Trial(entry, pair)
        except pytest.skip.Exception:
            continue
        values = _values(trial)
        if values:
            found[pair] = values
    return found


def _values(trial: Trial) -> dict[str, float]:
    for module in (trial.method, trial.setup.student, trial.setup.pair.teacher):
        module.double()
    images = torch.randn(trial.setup.batch.inputs.shape, generator=torch.Generator().manual_seed(0), dtype=torch.double)
    trial.setup.batch = replace(trial.setup.batch, inputs=images)
    trial.losses(moment(seed=1))  # fills memories, moves running statistics
    losses = trial.losses(moment(seed=2))
    if not losses.terms:
        return {}
    trained = [*trial.setup.student.parameters(), *trial.trainable().values()]
    total = torch.stack([term.double() for term in losses.terms.values()]).sum()
    gradients = torch.autograd.grad(total, trained, allow_unused=True)
    found = {name: float(term.detach()) for name, term in losses.terms.items()}
    found["gradient"] = float(torch.cat([gradient.flatten() for gradient in gradients if gradient is not None]).norm())
    return found | ({} if losses.task_weight == 1 else {"task weight": float(losses.task_weight)})


def lines(name: str, revision: int, found: dict[str, dict[str, float]]) -> str:
    """As they would stand in the file."""
    shown = [
        f"    {pair}: {{{', '.join(f'{term}: {value:.8g}' for term, value in values.items())}}}"
        for pair, values in found.items()
    ]
    return "\n".join([f"{name}:", f"  {revision}:{'' if found else ' {}'}", *shown])


def differences(found: dict[str, dict[str, float]], known: dict[str, dict[str, float]]) -> list[str]:
    told = []
    for pair in {**known, **found}:
        now, was = found.get(pair, {}), known.get(pair, {})
        told += [
            f"{pair}, {term}: {now.get(term, 'absent')}, was {was.get(term, 'absent')}"
            for term in {**was, **now}
            if term not in was or now.get(term) != pytest.approx(was[term], rel=CLOSE, abs=0)
        ]
    return told


@pytest.mark.parametrize("name", sorted({*ENTRIES, *PINNED}))
def test_a_revision_computes_what_it_always_did(name: str) -> None:
    assert name in ENTRIES, (
        f"{name} is no method any more, and records that name it are orphaned. If that is meant, say why in the commit "
        f"message, and take its lines out of {FILE}."
    )
    entry, known = ENTRIES[name], PINNED.get(name, {})
    assert entry.revision >= max(known, default=0), f"{name} was at revision {max(known)}: revisions only rise"
    found = computed(entry)
    assert entry.revision in known, (
        f"revision {entry.revision} of {name} has no losses in {FILE}. Say in the commit message what it changes, and "
        f"add these lines by hand; those of older revisions stay:\n{lines(name, entry.revision, found)}"
    )
    changed = "\n".join(differences(found, known[entry.revision]))
    assert not changed, (
        f"{name} computes something else than its revision {entry.revision} did:\n{changed}\n"
        f"Records of revision {entry.revision} would be taken for this code's. Undo the change, or raise `revision` in "
        f"{entry.path.name}, say why in the commit message, and add the new revision's lines to {FILE}."
    )
