"""The check of the texts' claims: its results on the paper, its language, its errors."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

from benchmark.errors import UsageError
from benchmark.machine.plugins import ROOT
from benchmark.paper.board import Board, published
from benchmark.paper.claims import ClaimResult, Claims, check_claims, load_claims, tally
from benchmark.paper.expression import Evaluator
from benchmark.paper.quantities import ExpressionError, Quantity, Truth, as_printed
from benchmark.paper.suite import Cell, Setting

TEXTS = ROOT.parent / "shared" / "paper"
TEXT_FILES = {
    "paper": "diffkd-paper.txt",
    "poster": "diffkd-poster.txt",
    "page": "diffkd-page.txt",
    "review": "diffkd-review.md",
    "slides": "kdiffusion-slides.txt",
}


def made_up(row: str, column: str, printed: str | None, group: str = "", table: str = "x") -> Cell:
    value, _, std = (printed or "").partition("±")
    digits = len(value.partition(".")[2])
    number = float(value) if value else None
    return Cell(table, table, group, row, column, Setting(), value or None, number, float(std) if std else None, digits)


CELLS = [
    made_up("Student", "A", "70.0"),
    made_up("Student", "B", "60.00"),
    made_up("KD", "A", "71.3"),
    made_up("KD", "B", "59.10±0.20"),
    made_up("Ours", "A", "72.5"),
    made_up("Ours", "B", "62.34±0.10"),
    made_up("Unprinted", "A", None),
    made_up("Unprinted", "B", "1"),
    made_up("Only", "Top-1", "5", table="single"),
    made_up("Same", "Top-1", "6", group="first", table="grouped"),
    made_up("Same", "Top-1", "7", group="second", table="grouped"),
]


@pytest.fixture(scope="module")
def audit() -> Claims:
    return load_claims()


@pytest.fixture(scope="module")
def results(audit: Claims) -> dict[str, ClaimResult]:
    return {result.claim.id: result for result in check_claims(audit)}


# What the audit finds


@pytest.mark.parametrize(
    ("name", "claimed", "computed"),
    [
        ("r18-over-mse", 1.74, 1.64),
        ("fcos-gain", 4.0, 3.9),
        ("detection-loss-weight", 1, 5),
        ("review-previous-methods", 1.57, 0.38),
        ("table-10-own", 1, 0),
        ("table-10-shows-unet", 1, 0),
        ("detection-feature-types", 3, 0),
    ],
)
def test_the_texts_contradict_their_own_numbers(
    results: dict[str, ClaimResult], name: str, claimed: float, computed: float
) -> None:
    result = results[name]
    assert result.outcome != "holds"
    assert result.claimed is not None
    assert result.computed is not None
    assert sorted([result.claimed.value, result.computed.value]) == pytest.approx(sorted([claimed, computed]))


@pytest.mark.parametrize(
    ("name", "reading"),
    [
        ("fcos-gain", "the DiffKD† row"),
        ("fcos-over-fgd", "the DiffKD† row"),
        ("retina-x101-gain", "the DiffKD† row"),
        ("retina-x101-over-fgd", "the DiffKD† row"),
        ("reppoints-over-fgd", "the DiffKD† row"),
        ("review-previous-methods", "over DKD"),
        ("table-10-shows-unet", "Table 12"),
        ("baseline-large-margin", 'the DiffKD† column, for "our methods" are two'),
        ("mobilenetv2-over-crd", "any lead at all"),
        ("pilot-marginal-size", "their mean is"),
        ("slides-multiple-layers", "with its target guidance"),
    ],
)
def test_a_claim_that_fails_names_the_reading_that_holds(
    results: dict[str, ClaimResult], name: str, reading: str
) -> None:
    assert results[name].outcome == "depends on the reading"
    assert {other.name: other.outcome for other in results[name].readings}[reading] == "holds"


@pytest.mark.parametrize(
    ("name", "culprit"),
    [
        ("sota-classification", "DIST: 74.09 is not above 74.73"),
        ("baseline-large-margin", "R18 (R34) Top-1: 72.22 - max(70.66, 71.61, 71.70, 72.07) = 0.15"),
        ("maskd-is-best", "DeepLabV3-MBV2, CIRKD, mIoU Val"),
        ("retina-x101-especially", "S: Faster RCNN-R50"),
        ("pilot-marginal", "83.72 is not above 84.04"),
        ("slides-multiple-layers", "WRN40-2 -> ShuffleNetV1"),
    ],
)
def test_a_failing_claim_names_its_exceptions(results: dict[str, ClaimResult], name: str, culprit: str) -> None:
    assert results[name].outcome in {"does not follow", "depends on the reading"}
    assert any(culprit in line for line in results[name].exceptions)


def test_other_publications_contradict_it_too(results: dict[str, ClaimResult]) -> None:
    unfounded = {name for name, result in results.items() if result.outcome == "does not follow"}
    assert {
        "dist-limited-dense",
        "cascade-teacher",
        "retina-x101-teacher",
        "dist-wrn-copied",
        "frs-retina",
    } <= unfounded
    readings = {other.name: other.outcome for other in results["sota-detection"].readings}
    assert readings["against FGD with its inheriting strategy"] == "does not follow"


def test_the_feature_row_alone_gains_less_than_the_text_says(results: dict[str, ClaimResult]) -> None:
    result = results["mse-like-for-like"]
    assert result.outcome == "depends on the reading", "there is a gain"
    assert result.sentence == "73.16 - 72.39 = 0.77 is not 1.23"


@pytest.mark.parametrize(
    "name",
    ["mbv1-over-dkd", "autoencoder-better", "anm-mbv2", "unet-time", "heterogeneous-gains", "cifar-most-cases",
     "dagger-detection", "deeplab-over-maskd-val", "pilot-differences", "one-training-five-places"],
)  # fmt: skip
def test_what_is_true_holds(results: dict[str, ClaimResult], name: str) -> None:
    assert results[name].outcome == "holds", results[name].sentence


def test_every_claim_has_an_answer(audit: Claims, results: dict[str, ClaimResult]) -> None:
    counts = tally(list(results.values()))
    assert sum(counts.values()) == len(audit.file.claims) >= 45
    assert min(counts.values()) > 0
    for result in results.values():
        if result.outcome == "cannot be checked":
            assert result.sentence, result.claim.id
            assert result.computed is None
        else:
            assert result.claimed is not None, result.claim.id
            assert result.computed is not None, result.claim.id


def test_no_stated_number_and_no_list_is_left_unused(audit: Claims) -> None:
    written = " ".join(
        source for claim in audit.file.claims for source in (claim.check or "", *claim.otherwise.values())
    )
    assert [name for name in audit.file.numbers if f'"{name}"' not in written] == []
    assert [name for name in audit.file.names if not re.search(rf"\b{name}\b", written)] == []


def without_breaks(text: str) -> str:
    """Remove line breaks and the hyphens at line ends, which the typesetter added."""
    return re.sub(r"(?<=\w)-(?=\w)", "", re.sub(r"\s+", "", text))


@pytest.mark.skipif(not TEXTS.is_dir(), reason="the texts are not part of this repository")
def test_quotes_are_verbatim(audit: Claims) -> None:
    texts = {name: without_breaks((TEXTS / file).read_text(encoding="utf-8")) for name, file in TEXT_FILES.items()}
    quotes = [(claim.id, claim.text, claim.quote) for claim in audit.file.claims]
    quotes += [(name, s.text, s.quote) for name, s in audit.file.numbers.items() if s.text and s.quote]
    assert [name for name, text, quote in quotes if without_breaks(quote) not in texts[text]] == []


def test_the_audit_needs_no_torch() -> None:
    code = "import sys, benchmark.paper.claims as c; c.check_claims(c.load_claims()); sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=False).returncode == 0


# Achieved numbers


def test_without_runs_nothing_about_them_can_be_checked(audit: Claims) -> None:
    by_id = {result.claim.id: result for result in check_claims(audit, lambda cell: None)}
    assert by_id["r18-over-mse"].outcome == "cannot be checked"
    assert "table2/R18 (R34) Top-1/DiffKD" in by_id["r18-over-mse"].sentence


def test_a_claim_can_hold_in_our_runs_though_not_in_the_paper(audit: Claims) -> None:
    ours = {"table2/R18 (R34) Top-1/DiffKD": 72.31, "table2/R18 (R34) Top-1/MSE": 70.57}
    found = check_claims(audit, lambda cell: Quantity(ours[cell.id]) if cell.id in ours else None)
    by_id = {result.claim.id: result for result in found}
    assert by_id["r18-over-mse"].outcome == "holds"
    assert by_id["r18-over-mse"].cells == tuple(ours)
    assert by_id["dagger-over-dist"].outcome == "cannot be checked"


def test_a_ratio_to_nothing_is_no_answer(tmp_path: Path) -> None:
    check = 'cell("x", "Ours", "A") - cell("x", "Student", "A") == 2.5'
    claims = load(tmp_path, CLAIM.replace(check, 'ratio(cell("x", "Ours", "A"), cell("x", "Student", "A")) > 1'))
    assert check_claims(claims)[0].outcome == "holds"
    (result,) = check_claims(claims, lambda cell: Quantity(0.0))
    assert result.outcome == "cannot be checked"
    assert "division by zero" in result.sentence


def test_one_counterexample_settles_what_holds_for_all() -> None:
    check = 'all(cell("x", "Ours", c) > cell("x", "Unprinted", c) for c in columns("x"))'
    assert answer(check).holds is None
    assert answer(check.replace(">", "<")).holds is False


def test_an_equality_allows_for_the_spread_of_measured_numbers() -> None:
    def measured(cell: Cell) -> Quantity:
        return Quantity(72.2 if cell.row == "Ours" else 70.0, spread=0.2)

    check = 'cell("x", "Ours", "A") - cell("x", "Student", "A") == 2.5'
    assert Evaluator(Board(CELLS), measured).truth(check).holds
    assert not Evaluator(Board(CELLS), measured).truth(check.replace("2.5", "2.6")).holds


# The language


def answer(check: str) -> Truth:
    numbers = {"stated": as_printed("2.5")}
    return Evaluator(Board(CELLS), published, numbers, {"others": ("Student", "KD")}).truth(check)


@pytest.mark.parametrize(
    "check",
    [
        'cell("x", "Ours", "A") - cell("x", "Student", "A") == 2.5',
        'cell("x", "Ours", "A") - cell("x", "Student", "A") == number("stated")',
        'cell("x", "Ours", "B") - cell("x", "Student", "B") == 2.3',
        'all(cell("x", "Ours", c) > cell("x", o, c) for c in columns("x") for o in others)',
        'any(cell("x", "KD", c) < cell("x", "Student", c) for c in columns("x"))',
        'share(cell("x", "KD", c) > cell("x", "Student", c) for c in columns("x")) == 0.5',
        'count(cell("x", "KD", c) > cell("x", "Student", c) for c in columns("x")) == 1',
        'count(rows("x", without="Unprinted")) == 3',
        'count(rows("x", containing="D")) == 1',
        'max(cell("x", o, "A") for o in others) == 71.3',
        'mean(cell("x", "Ours", "A"), cell("x", "Student", "A")) == 71.25',
        'sum(cell("x", "Ours", "A"), 1.0) == 73.5',
        'abs(cell("x", "KD", "B") - cell("x", "Student", "B")) == 0.90',
        'ratio(cell("x", "Ours", "A"), cell("x", "Student", "A")) < 1.1 and 1 <= 2 < 3',
        'not cell("x", "Ours", "A") < 70 or 1 > 2',
        '-cell("x", "Student", "A") == -70.0',
        'cell("single", "Only") == 5',
        'cell("grouped", "Same", group="second") == 7',
        'all(cell("grouped", "Same", group=g) >= 6 for g in groups("grouped"))',
        'all(cell("x", a, "A") < cell("x", b, "A") for a, b in (("Student", "KD"), ("KD", "Ours")))',
        'all(cell("x", r, "A") > 1 for r in rows("x") if printed("x", r, "A"))',
        'cell("x", "Ours", "B") - cell("x", "KD", "B") > std("x", "Ours", "B") + std("x", "KD", "B")',
    ],
)  # fmt: skip
def test_a_true_check_holds(check: str) -> None:
    truth = answer(check)
    assert truth.holds is True, truth.text


@pytest.mark.parametrize(
    "check",
    [
        'cell("x", "Ours", "A") - cell("x", "Student", "A") == 2.6',
        'cell("x", "Ours", "A") != 72.5',
        'cell("x", "Ours", "B") == 62.35',
        'cell("x", "Ours", "A") > 72.5',
        'all(cell("x", "KD", c) > cell("x", "Student", c) for c in columns("x"))',
        'cell("x", "KD", "A") > 70 and cell("x", "KD", "B") > 60',
    ],
)
def test_a_false_check_does_not(check: str) -> None:
    assert answer(check).holds is False


def test_equality_is_judged_at_the_coarser_printed_precision() -> None:
    assert answer('cell("x", "Ours", "A") == 72.46').holds
    assert not answer('cell("x", "Ours", "B") == 62.40').holds


def test_a_failure_that_rounding_could_explain_is_said_to_be_close() -> None:
    assert answer('cell("x", "Ours", "A") - cell("x", "Student", "A") == 2.6').close
    assert not answer('cell("x", "Ours", "A") - cell("x", "Student", "A") == 2.7').close
    assert answer('cell("x", "Ours", "A") > 72.52').close
    assert not answer('cell("x", "Ours", "A") > 72.6').close


@pytest.mark.parametrize(
    ("check", "complaint"),
    [
        ('cell("x", "Our", "A") > 1', "did you mean 'Ours'?"),
        ('cell("x", "Ours", "C") > 1', "no column 'C'"),
        ('cell("y", "Ours", "A") > 1', "there is no table 'y'"),
        ('cell("x", "Ours") > 1', "add column="),
        ('cell("grouped", "Same") > 1', "add group="),
        ('cell("x", "Ours", "A", "B", "C") > 1', "takes from"),
        ('number("stted") > 1', "did you mean 'stated'?"),
        ('cel("x", "Ours", "A") > 1', "did you mean 'cell'?"),
        ('all(cell("x", "Ours", c) > 1 for c in other)', "did you mean 'others'?"),
        ('all(cell("x", "Ours", c) > 1 for c in columns("x", containing="Z"))', "all() has no values"),
        ('cell("x", "Ours", "A")', "needs a comparison"),
        ('"a" > 1', "needs a number"),
        ("1 / 0 > 1", "division by zero"),
        ("1 > ", "cannot read the check"),
        ("().__class__ == 1", "not part of the language"),
        ('__import__("os").system("true") == 1', "not part of the language"),
        ("(lambda: 1)() == 1", "not part of the language"),
        ("2 ** 99 > 1", "not part of the language"),
        ("1 in (1, 2)", "a comparison needs a number"),
        ("abs(1, 2) == 1", "abs() takes one number, not 2"),
        ("max(1, key=2) == 1", "max() has no argument 'key'"),
    ],
)
def test_what_is_not_in_the_language_is_named(check: str, complaint: str) -> None:
    with pytest.raises(ExpressionError, match=re.escape(complaint)):
        answer(check)


# The file


@pytest.mark.parametrize(
    ("otherwise", "outcome"),
    [
        ({"A": 2.7}, "does not follow"),
        ({"A": 2.5}, "depends on the reading"),
        ({"B": 2.7}, "cannot be checked"),  # of B no number was measured, and it could be the reading that holds
        ({"B": 2.7, "A": 2.5}, "depends on the reading"),
    ],
)
def test_a_claim_fails_only_if_no_reading_holds(tmp_path: Path, otherwise: dict[str, float], outcome: str) -> None:
    text = CLAIM.replace("== 2.5", "== 2.7") + "    otherwise:\n"
    for column, gain in otherwise.items():
        text += f'      column {column}: cell("x", "Ours", "{column}") - cell("x", "Student", "{column}") == {gain}\n'
    [result] = check_claims(load(tmp_path, text), lambda cell: None if cell.column == "B" else published(cell))
    assert result.outcome == outcome
    unanswered = "; not answered yet: column B" if outcome == "cannot be checked" else ""
    assert result.sentence == f"72.5 - 70.0 = 2.5 is not 2.7{unanswered}"


CLAIM = """\
claims:
  - id: gain
    text: paper
    where: section 1
    quote: improves the student by 2.5
    kind: difference
    check: cell("x", "Ours", "A") - cell("x", "Student", "A") == 2.5
"""


def load(tmp_path: Path, text: str) -> Claims:
    path = tmp_path / "claims.yaml"
    path.write_text(text, encoding="utf-8")
    return load_claims(path, CELLS)


def test_a_file_of_claims_is_checked(tmp_path: Path) -> None:
    text = CLAIM + CLAIM.removeprefix("claims:\n").replace("gain", "loss").replace("2.5\n", "2.7\n")
    text += (
        CLAIM.removeprefix("claims:\n").replace("gain", "unseen").split("    check:")[0] + "    why: nobody measured\n"
    )
    results = check_claims(load(tmp_path, text))
    assert [result.outcome for result in results] == ["holds", "does not follow", "cannot be checked"]
    assert tally(results) == {"holds": 1, "depends on the reading": 0, "does not follow": 1, "cannot be checked": 1}
    assert results[1].sentence == "72.5 - 70.0 = 2.5 is not 2.7"
    assert (results[1].claimed, results[1].computed) != (None, None)
    assert results[0].cells == ("x/Ours/A", "x/Student/A")
    assert results[2].sentence == "nobody measured"


@pytest.mark.parametrize(
    ("change", "complaint"),
    [
        (('"Ours"', '"Orus"'), "claims.yaml:7: gain: table x has no row 'Orus' here; did you mean 'Ours'?"),
        (("== 2.5\n", "== \n"), "claims.yaml:7: gain: cannot read the check"),
        (("    kind", "    chekc: 1 > 0\n    kind"), "claims.yaml:6: unknown key 'chekc'; did you mean 'check'?"),
        (("kind: difference", "kind: diffrence"), "claims.yaml:6: claims.0.kind"),
        (("    kind", "    why: no idea\n    kind"), "claims.yaml:2: gain: give either `check`, or `why`"),
        (("  - id: gain", "  - {id: gain, text: page, where: w, quote: q, kind: size, why: w}\n  - id: gain"),
         "claims.yaml:3: two claims have the id 'gain'"),
    ],
)  # fmt: skip
def test_a_mistake_in_the_file_names_its_line(tmp_path: Path, change: tuple[str, str], complaint: str) -> None:
    with pytest.raises(UsageError, match=re.escape(complaint)):
        load(tmp_path, CLAIM.replace(*change))


def test_an_empty_file_is_a_mistake(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"claims\.yaml:1: the file"):
        load(tmp_path, "")


def test_all_mistakes_come_at_once(tmp_path: Path) -> None:
    text = CLAIM.replace('"Ours"', '"Orus"') + '    otherwise:\n      another reading: cell("x", "Ours", "Z") > 1\n'
    with pytest.raises(UsageError) as error:
        load(tmp_path, text)
    assert [line.split(":")[1] for line in error.value.message.splitlines()] == ["7", "9"]
