"""Checks of the paper's sentences about cost, by their ids in suites/claims.yaml. Counting alone answers them."""

from __future__ import annotations

from benchmark.records.static import CostClaim, StaticCell
from benchmark.verify.findings import Findings
from methods.registry import methods

TABLE_8 = "table8/FLOPs (G)/"


def add_claims(findings: Findings) -> None:
    """Add the outcomes of the claims. They are computed from the costs and exports that the findings have already."""
    cells = {cell.cell: cell for cell in findings.cells}
    findings.claims += [
        _extra_cost(cells),
        _comparable(cells),
        _passes(cells, findings),
        _autoencoder(cells),
        _inference(findings),
        _kdiffusion(findings),
    ]


def _extra(cells: dict[str, StaticCell], method: str) -> StaticCell | None:
    return cells.get(f"section_c6/{method}/Extra FLOPs (M)")


def _cannot(claim: str, what: str) -> CostClaim:
    return CostClaim(claim, "cannot be checked", f"{what} is not counted")


def _extra_cost(cells: dict[str, StaticCell]) -> CostClaim:
    cell = _extra(cells, "DiffKD")
    if cell is None or cell.true is None or cell.value is None:
        return _cannot("extra-cost", "DiffKD on ResNet-34 -> ResNet-18")
    sentence = (
        f"all side networks at T = 5 add {cell.true:.0f} M multiply-adds an image to a forward pass, "
        f"{cell.true / float(cell.printed):.2f} times the {cell.printed} M; {cell.convention} are {cell.value:.0f} M"
    )
    return CostClaim("extra-cost", "holds" if cell.true <= 1.05 * float(cell.printed) else "does not follow", sentence)


def _comparable(cells: dict[str, StaticCell]) -> CostClaim:
    named = {name: _extra(cells, name) for name in ("CRD", "DiffKD", "ReviewKD")}
    counts = {name: cell.true for name, cell in named.items() if cell is not None and cell.true is not None}
    if len(counts) < len(named):
        return _cannot("cost-acceptable", "one of CRD, DiffKD and ReviewKD")
    between = counts["CRD"] <= counts["DiffKD"] <= counts["ReviewKD"]
    sentence = "true counts, M multiply-adds an image: " + ", ".join(f"{n} {c:.0f}" for n, c in counts.items())
    return CostClaim("cost-acceptable", "holds" if between else "does not follow", sentence)


def _passes(cells: dict[str, StaticCell], findings: Findings) -> CostClaim:
    cell = cells.get(f"{TABLE_8}1024")
    fit = next((text for table, text in findings.tables.items() if table.startswith("table8,")), "")
    if cell is None or cell.true is None:
        return _cannot("two-passes-or-six", "Table 8")
    sentence = (
        f"Table 8 is nearest to {fit}; with the six passes of training 1024 costs {cell.true:.2f} G, not {cell.printed}"
    )
    holds = "6 passes" in cell.convention or "T = 5" in cell.convention
    return CostClaim("two-passes-or-six", "holds" if holds else "does not follow", sentence)


def _autoencoder(cells: dict[str, StaticCell]) -> CostClaim:
    row = {key.removeprefix(TABLE_8): cell.true for key, cell in cells.items() if key.startswith(TABLE_8)}
    counts = {name: true for name, true in row.items() if true is not None}
    if "w/o AE" not in counts:
        return _cannot("autoencoder-cheaper", "Table 8")
    without = counts.pop("w/o AE")
    dearer = [name for name, true in counts.items() if true >= without]
    sentence = f"true counts at T = 5: {without:.2f} G without; " + ", ".join(f"{n} {c:.2f}" for n, c in counts.items())
    sentence += f"; dearer with it at {', '.join(dearer)}" if dearer else ""
    return CostClaim("autoencoder-cheaper", "holds" if len(dearer) < len(counts) else "does not follow", sentence)


def _inference(findings: Findings) -> CostClaim:
    of = next((export for export in findings.exports if export.method == "diffkd"), None)
    if of is None:
        return _cannot("inference-unchanged", "DiffKD's exported student")
    equal = sum(export.equal for export in findings.exports)
    sentence = (
        f"after DiffKD the exported student has {'' if of.equal else 'not '}the plain student's parameters, "
        f"multiply-adds and output; so do those of {equal} of {len(findings.exports)} methods"
    )
    return CostClaim("inference-unchanged", "holds" if of.equal else "does not follow", sentence)


def _kdiffusion(findings: Findings) -> CostClaim:
    of = next((export for export in findings.exports if export.method == "kdiffusion"), None)
    if of is None:
        what = "kdiffusion is not available yet" if "kdiffusion" not in methods() else "kdiffusion was not exported"
        return CostClaim("slides-free-inference", "cannot be checked", what)
    sentence = (
        f"the merged student has {'' if of.equal else 'not '}the plain student's parameters, multiply-adds and output"
    )
    return CostClaim("slides-free-inference", "holds" if of.equal else "does not follow", sentence)
