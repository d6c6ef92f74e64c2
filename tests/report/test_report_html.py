import re
import time
from collections.abc import Iterator
from dataclasses import replace
from html.parser import HTMLParser
from itertools import pairwise
from pathlib import Path

import pytest
import synthetic
from synthetic import cell, claim, comparison, curves, judged, judgement, run, table

from benchmark.judge.compare import Sources, compare
from benchmark.judge.contrasts import Gain, Ordering, OrderVerdict, judge_orderings
from benchmark.judge.others import OthersRerun
from benchmark.judge.samples import Sample
from benchmark.judge.sources import SourceCheck, SourceWord
from benchmark.judge.verdicts import Verdict
from benchmark.judge.views import CellEvidence, ClaimAnswer, Comparison, EvidenceKind, Reference, RuleView
from benchmark.paper.readings import Reading
from benchmark.paper.rules import load_rules
from benchmark.records.evidence import InputProblem, ProblemKind
from benchmark.records.facts import Code, Hardware
from benchmark.report.rendering import TEMPLATES, render, write_html
from benchmark.report.wording import OUTCOMES, SYMBOLS, tone

HOSTILE = "<script>alert('x')</script>\"'><img src=http://evil.example/x onerror=alert(1)>&amp;</style>"
VOID = {"meta", "link", "input", "img", "br", "hr"}
# WCAG 2.2: normal text against its background, level AA.
LEAST_CONTRAST = 4.5


class Page(HTMLParser):
    """A page's elements, each with its attributes, its ancestors and its own text."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str | None], tuple[str, ...]]] = []
        self.words: list[str] = []
        self._open: list[str] = []
        self.feed(text)
        self.close()
        assert not self._open, f"left open: {self._open}"

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs), tuple(self._open)))
        if tag not in VOID:
            self._open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs), tuple(self._open)))

    def handle_endtag(self, tag: str) -> None:
        assert self._open.pop() == tag, f"</{tag}> closes another element"

    def handle_data(self, data: str) -> None:
        if not {"script", "style"} & set(self._open):
            self.words.append(data)

    @property
    def text(self) -> str:
        return " ".join(" ".join(self.words).split())

    def all(self, tag: str) -> Iterator[dict[str, str | None]]:
        return (attributes for name, attributes, _ in self.elements if name == tag)

    def values(self, attribute: str) -> list[str]:
        return [value for _, attributes, _ in self.elements if (value := attributes.get(attribute))]


@pytest.fixture(scope="module")
def bare(tmp_path_factory: pytest.TempPathFactory) -> Comparison:
    return compare(Sources((tmp_path_factory.mktemp("results"),), mode="all"))


@pytest.fixture(scope="module")
def full(bare: Comparison, tmp_path_factory: pytest.TempPathFactory) -> Comparison:
    return synthetic.populated(bare, tmp_path_factory.mktemp("curves"))


@pytest.fixture(scope="module")
def full_text(full: Comparison) -> str:
    return render(full)


@pytest.fixture(scope="module")
def full_page(full_text: str) -> Page:
    return Page(full_text)


@pytest.fixture(scope="module")
def bare_page(bare: Comparison) -> Page:
    return Page(render(bare))


def page_of(*cells: object, **changes: object) -> Page:
    return Page(render(comparison(table(*((each,) for each in cells)), **changes)))  # type: ignore[arg-type]


@pytest.mark.parametrize("verdict", Verdict)
def test_a_verdict_is_shown_as_colour_word_and_sign(verdict: Verdict) -> None:
    text = render(comparison(table((judged(verdict, "a row"),))))
    found = re.search(r'<td class="c (tone-\w+)" data-v="([\w-]+)".*?<span class="verdict">(.*?)</span>', text)
    assert found is not None
    assert found[1] == f"tone-{tone(verdict)}"
    assert found[2] == verdict.slug
    assert SYMBOLS[verdict] in found[3] and verdict.value in found[3]


def test_signs_of_verdicts_differ_so_that_a_grey_print_tells_them_apart() -> None:
    assert set(SYMBOLS) == set(Verdict)
    assert len(set(SYMBOLS.values())) == len(Verdict)


def test_every_outcome_of_an_ordering_has_a_colour_and_a_sign() -> None:
    assert {order.value for order in OrderVerdict} <= set(OUTCOMES)


def test_the_reader_finds_every_verdict_explained() -> None:
    text = page_of(cell()).text
    for verdict in Verdict:
        assert verdict.value in text and verdict.meaning in text


def test_a_cell_has_published_and_achieved_side_by_side_and_every_run_behind_it() -> None:
    page = page_of(judged(Verdict.CONSISTENT, "KD"))
    assert "published 70.66 ±0.24" in page.text
    assert "achieved 70.50 ±0.10 (3)" in page.text
    assert "gap −0.16" in page.text
    assert "the reason of consistent." in page.text
    assert "90 % interval of the gap −0.36 to +0.04" in page.text
    assert "smallest gap that would have shown 0.80" in page.text
    for each in (run(repetition=number) for number in range(3)):
        assert f"{each.repetition} done 70.50 70.70 (231) 1 h 0" in page.text
    assert "4f2c9d1e7+" in page.text, "a commit with changes is marked"
    assert "NVIDIA H200" in page.text


def test_both_epochs_are_shown_where_the_source_does_not_say_which() -> None:
    readings = {"last": judgement(Verdict.BELOW, -0.5), "best": judgement(Verdict.CONSISTENT, -0.1)}
    said = replace(judgement(Verdict.DEPENDS_ON_EPOCH, -0.5), readings=readings)
    view = judged(Verdict.BELOW, "KD", epoch="unknown")
    best = replace(view.achieved, selection="best", mean=70.7) if view.achieved else None
    page = page_of(replace(view, best=best, references=(replace(view.references[0], judgement=said),)))
    assert "last epoch 70.50 ±0.10 (3) −0.50 ▼ below" in page.text
    assert "best epoch 70.70 ±0.10 (3) −0.10 ≈ consistent" in page.text


def test_independent_reruns_stand_beside_the_paper() -> None:
    view = judged(Verdict.BELOW, "KD")
    rerun = Reference("rerun", "71.4", 71.4, None, 1, 2, "RepDistiller issue 62", judgement(Verdict.ABOVE, 0.9))
    page = page_of(replace(view, references=(*view.references, rerun)))
    assert "+ 1 re-run" in page.text
    assert "RepDistiller issue 62 2 runs 71.4 +0.90 +0.70 to +1.10 ▲ above" in page.text
    assert "below above" in page.values("data-v")


def test_all_that_is_known_of_a_number_is_in_its_details() -> None:
    reading = Reading("70.96", "primary", "CRD's README", "README.md", "", "the benchmark of CRD's authors")
    source = SourceCheck(SourceWord.MISCOPIED, "70.66 here, but 70.96 in CRD's README", (reading,))
    other = OthersRerun(
        printed="71.4±0.1",
        value=71.4,
        std=0.1,
        digits=1,
        runs=3,
        values=(71.3, 71.4, 71.5),
        comparable=True,
        protocol="the same code",
        source="an issue",
        where="issue 62",
        gap=0.74,
        judgement=judgement(Verdict.ABOVE, 0.74),
    )
    known = CellEvidence(source=source, reruns=(other,), runs=Verdict.BELOW, whose={"ours": 2, "alice": 1})
    page = page_of(judged(Verdict.BELOW, "KD", evidence=replace(known, best=EvidenceKind.RUNS)))
    assert "▼ below gap −0.16 miscopied" in page.text  # at once, in the table
    assert "source ≠ miscopied 70.66 here, but 70.96 in CRD's README." in page.text
    assert "70.96 primary CRD's README README.md the benchmark of CRD's authors" in page.text
    assert "re-runs by others 71.4 ±0.1 (an issue: above)" in page.text
    assert "71.4 ±0.1 +0.74 3 ▲ above an issue issue 62 the same code; the reason of above" in page.text
    assert "runs ▼ below ours 2, alice 1" in page.text


def test_a_faithful_copy_has_no_mark_in_the_table() -> None:
    source = SourceCheck(SourceWord.AS_IN_SOURCE, "70.66 in CRD's README", ())
    page = page_of(judged(Verdict.BELOW, "KD", evidence=CellEvidence(source=source, best=EvidenceKind.SOURCE)))
    assert "gap −0.16 as in its source" not in page.text and "= as in its source 70.66 in CRD's README" in page.text


def test_the_answer_stands_above_the_counts(bare: Comparison, bare_page: Page) -> None:
    assert "Summary " + " ".join(bare.evidence.sentences) in bare_page.text
    assert "source miscopied 0 13" in bare_page.text


def test_a_cost_is_shown_as_computed_to_its_digits() -> None:
    said = replace(judgement(Verdict.DIFFERS, 0.2213), interval=None, convention="multiply-adds")
    reference = Reference("paper", "61.1", 61.1, None, 1, None, "", said)
    page = page_of(cell(static=True, printed="61.1", measured=61.3213, references=(reference,), metric="params_m"))
    assert "computed 61.321" in page.text
    assert "≠ differs gap +0.221" in page.text


def test_a_place_without_a_printed_number_shows_ours_alone() -> None:
    view = judged(Verdict.REPRODUCED, "KD", printed=None, references=())
    page = page_of(view)
    assert "achieved 70.50 ±0.10 (3)" in page.text
    assert "nothing-printed" in page.values("data-v")


def test_notes_extra_runs_and_records_set_aside_are_shown() -> None:
    extra, aside = run("e" * 16, 7), run("a" * 16, 0, set_aside="another record is newer")
    near = run("b" * 16, 0, profile="mini")
    view = judged(
        Verdict.REPRODUCED,
        "KD",
        note="lr 0.01",
        unstated="the weight",
        notes=("code changed", "protocol partly unstated: the weight"),
        extra=(extra.id,),
        set_aside=(aside.id,),
        near=(near.id,),
    )
    known = {each.id: each for each in (extra, aside, near)}
    page = page_of(view, runs=known)
    assert "Left open by the source: the weight" in page.text
    assert page.text.count("the weight") == 1, "said once"
    for words in ("lr 0.01", "code changed", "beyond the declared number", "another record is newer", "0 mini done"):
        assert words in page.text


def test_gains_and_orderings_that_were_tested_are_listed() -> None:
    said = judgement(Verdict.CONSISTENT, -0.2)
    gain = Gain("student", "small/KD/x", "small/Student/x", "KD", "ResNet-56 -> ResNet-20", 1.6, 1.4, said)
    waiting = replace(gain, row="CRD", achieved=None)
    better, worse = Sample((71.0, 71.2, 71.1)), Sample((70.0, 70.1, 70.2))
    report = judge_orderings([Ordering("KD above Student", better, worse, "cifar100", "top1")], load_rules())
    shown = table((judged(Verdict.CONSISTENT, "KD"),), gains=(gain, waiting), orderings=report, left_out=4)
    page = Page(render(comparison(shown)))
    assert "Gains: 1 with runs on both sides" in page.text
    assert "student +1.60 +1.40 −0.20 ≈ consistent" in page.text
    assert "Orderings: 1 tested, 4 without usable runs" in page.text
    assert "KD above Student ✓ holds" in page.text


def test_a_claim_shows_quote_outcome_and_both_numbers() -> None:
    ours = ClaimAnswer("holds", "0.28", "0.29", "ours", (), False, ())
    page = page_of(cell(), claims=(claim(), claim(id="other", achieved=ours)))
    assert "≠ does not follow Removing it decreases the accuracy by 0.28% section 4.4" in page.text
    assert "claimed 0.28 computed 0.3" in page.text
    assert "By our runs: ✓ holds ours. Claimed 0.28, achieved 0.29." in page.text
    assert "≠ does not follow 2" in page.text


def test_hostile_strings_are_text_and_nothing_else() -> None:
    said = replace(judgement(Verdict.BELOW), reason=HOSTILE)
    view = judged(Verdict.BELOW, HOSTILE, column=HOSTILE, group=HOSTILE, note=HOSTILE, notes=(HOSTILE,))
    view = replace(
        view,
        source=HOSTILE,
        unstated=HOSTILE,
        printed=HOSTILE,
        method=HOSTILE,
        problem=HOSTILE,
        references=(replace(view.references[0], judgement=said, source=HOSTILE),) * 2,
    )
    bad = run(
        status="diverged", reason=HOSTILE, hardware=Hardware(gpu=HOSTILE), code=Code(commit=HOSTILE), finished=HOSTILE
    )
    whole = comparison(
        table((view,), title=HOSTILE, source=HOSTILE, note=HOSTILE, table=HOSTILE),
        runs={bad.id: bad},
        claims=(claim(quote=HOSTILE, where=HOSTILE, note=HOSTILE, reading=HOSTILE, text=HOSTILE),),
        rules=(RuleView(HOSTILE, 0.3, HOSTILE, HOSTILE),),
        notes=(HOSTILE,),
    )
    inputs = replace(whole.inputs, problems=(InputProblem(ProblemKind.UNREADABLE, HOSTILE, HOSTILE),))
    page = Page(render(replace(whole, inputs=inputs)))
    assert len(list(page.all("script"))) == 1
    assert not list(page.all("img"))
    assert page.text.count(" ".join(HOSTILE.split())) > 15
    assert not [name for _, attributes, _ in page.elements for name in attributes if name.startswith("on")]


def test_nothing_is_loaded_from_anywhere(full_text: str, full_page: Page) -> None:
    text, page = full_text, full_page
    assert not page.values("src") and not page.values("srcset") and not page.values("action")
    loaded = [attributes["href"] for attributes in page.all("link")]
    assert loaded == ["data:,"]
    style = text.split("<style>")[1].split("</style>")[0]
    assert "url(" not in style and "@import" not in style
    policy = [a["content"] for a in page.all("meta") if a.get("http-equiv") == "Content-Security-Policy"]
    assert len(policy) == 1 and "default-src 'none'" in str(policy[0])


def test_the_same_comparison_gives_the_same_bytes(full: Comparison, full_text: str, tmp_path: Path) -> None:
    path = write_html(full, tmp_path / "reports" / "paper")
    assert path == tmp_path / "reports" / "paper" / "index.html"
    assert path.read_text(encoding="utf-8") == full_text
    assert [each.name for each in path.parent.iterdir()] == ["index.html"]


def test_an_empty_comparison_still_is_a_page() -> None:
    page = Page(render(synthetic.empty()))
    assert "No run is recorded in results." in page.text
    assert "there is no such folder" in page.text
    assert "No table was compared." in page.text


def test_without_records_the_published_numbers_and_the_claims_are_there(bare: Comparison, bare_page: Page) -> None:
    page = bare_page
    assert "No run is recorded in" in page.text
    printed = [view.printed for view in bare.cells if view.printed]
    assert len(printed) > 400
    assert page.text.count("published ") >= len(printed)
    assert all(each.quote.split("\n")[0] in page.text for each in bare.claims)
    assert not [a for a in page.all("svg") if "plot" in str(a.get("class"))]


def test_every_cell_opens_details_that_exist_and_no_name_is_used_twice(full: Comparison, full_page: Page) -> None:
    names = full_page.values("id")
    assert len(names) == len(set(names))
    targets = full_page.values("popovertarget")
    assert set(targets) <= set(names)
    assert len(set(targets)) == sum(1 for _ in full.cells)
    for attribute in ("aria-labelledby", "aria-describedby"):
        assert set(full_page.values(attribute)) <= set(names)
    inside = [value[1:] for value in full_page.values("href") if value.startswith("#")]
    assert set(inside) <= set(names)


def test_headings_go_down_one_level_at_a_time(full_page: Page) -> None:
    levels = [int(tag[1]) for tag, _, _ in full_page.elements if re.fullmatch(r"h[1-6]", tag)]
    assert levels[0] == 1 and levels.count(1) == 1
    assert all(after - before <= 1 for before, after in pairwise(levels))


def test_header_cells_say_what_they_head_and_boxes_that_scroll_take_the_keyboard(full_page: Page) -> None:
    assert all(attributes.get("scope") for attributes in full_page.all("th"))
    boxes = [a for a in full_page.all("div") if a.get("class") == "scroll"]
    assert boxes and all(a.get("tabindex") == "0" and a.get("aria-label") for a in boxes)
    drawings = [a for a in full_page.all("svg") if "plot" in str(a.get("class"))]
    assert drawings and all(a.get("role") == "img" and a.get("aria-labelledby") for a in drawings)


def test_no_missing_value_is_printed_as_python_writes_it(full_page: Page) -> None:
    assert not re.search(r"\b(None|nan|inf|True|False)\b", full_page.text)


def test_tables_come_in_the_order_of_the_paper(bare_page: Page) -> None:
    shown = bare_page.values("data-table")
    numbers = [int(name.removeprefix("table")) for name in shown if name.startswith("table")]
    assert numbers == sorted(numbers)
    assert shown[0] == "table2"


def test_curves_are_drawn_thinned_and_their_absence_is_no_problem(tmp_path: Path) -> None:
    path = curves(tmp_path)
    broken = tmp_path / "broken.csv"
    broken.write_text("epoch,test.top1\n1,nan\n2\nx,y\n")
    files = (str(path), str(broken), str(tmp_path / "absent.csv"))
    known = {each.id: each for each in (run(repetition=n, curves=file) for n, file in enumerate(files))}
    text = render(comparison(table((judged(Verdict.BELOW, "KD"),)), runs=known))
    page = Page(text)
    drawings = [a for a in page.all("svg") if a.get("class") == "plot curve"]
    assert len(drawings) == 2, "the metric, and the training terms"
    lines = [str(a["d"]) for a in page.all("path") if str(a.get("class")).startswith("line") and len(str(a["d"])) > 20]
    assert len(lines) == 3, "one repetition has a curve; task and kd"
    assert all(40 < len(re.findall(r"-?[\d.]+", line)) / 2 <= 61 for line in lines)
    assert "repetition 0" in page.text and "task" in page.text and "bin00" not in page.text
    assert "published 70.66±0.24" in page.text


def test_three_thousand_records_take_less_than_five_seconds(bare: Comparison, tmp_path: Path) -> None:
    many = synthetic.populated(bare, tmp_path, more=6)
    assert len(many.runs) >= 3000
    began = time.process_time()
    text = render(many)
    assert time.process_time() - began < 5
    assert len(text) < 8_000_000


def test_words_can_be_read_in_both_themes() -> None:
    style = (TEMPLATES / "style.css").read_text()
    light, dark = (dict(re.findall(r"--([\w-]+): (#[0-9a-f]{6})", block)) for block in style.split("@media screen")[:2])
    assert set(dark) == set(light)
    for name, colours in (("light", light), ("dark", dark)):
        pairs = [(each, ground) for each in ("ink", "soft", "link") for ground in ("paper", "panel")]
        pairs += [(each, f"{each}-tint") for each in ("good", "neutral", "bad", "none")]
        pairs += [(each, "paper") for each in ("good", "neutral", "bad", "none")]
        pairs += [(each, f"{ground}-tint") for each in ("ink", "soft") for ground in ("good", "neutral", "bad")]
        for text, ground in pairs:
            assert contrast(colours[text], colours[ground]) >= LEAST_CONTRAST, (name, text, ground)


def contrast(one: str, other: str) -> float:
    """WCAG 2.2: (lighter + 0.05) / (darker + 0.05) of the relative luminances."""
    darker, lighter = sorted((luminance(one), luminance(other)))
    return (lighter + 0.05) / (darker + 0.05)


def luminance(colour: str) -> float:
    parts = [int(colour[start : start + 2], 16) / 255 for start in (1, 3, 5)]
    linear = [part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]
