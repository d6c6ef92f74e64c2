"""The page in a real browser: filters, details, keyboard, widths, themes, paper, and that nothing leaves it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
import synthetic
from chromium import Browser, Page, chromium

from benchmark.judge.compare import Sources, compare
from benchmark.report.rendering import write_html

pytestmark = [
    pytest.mark.browser,
    pytest.mark.skipif(chromium() is None, reason="needs Chromium: apt-get install chromium"),
]
PHONE, DESKTOP = 390, 1280
ENTER, ESCAPE, SPACE = ("Enter", 13, "\r"), ("Escape", 27), (" ", 32, " ")
VISIBLE = "[...document.querySelectorAll('td.c:not(.off)')].filter(cell => cell.checkVisibility()).length"


@pytest.fixture(scope="module")
def report(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Some of the real tables, among them the widest, with drawn results of every kind."""
    return drawn(tmp_path_factory.mktemp("report"), only=("table2", "table4", "table6", "table9"))


@pytest.fixture(scope="module")
def whole_report(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """All of them."""
    return drawn(tmp_path_factory.mktemp("whole"))


def drawn(folder: Path, only: tuple[str, ...] = ()) -> Path:
    bare = compare(Sources((folder / "results",), mode="all", only=only))
    return write_html(synthetic.populated(bare, folder), folder / "page")


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with Browser() as running:
        yield running


@pytest.fixture
def desktop(browser: Browser, report: Path) -> Iterator[Page]:
    page = browser.page(report, width=DESKTOP)
    yield page
    quiet(page, report)
    page.close()


def quiet(page: Page, report: Path) -> None:
    """It complained of nothing, and asked for nothing but itself."""
    assert page.complaints == []
    assert {url.partition("#")[0] for url in page.requests} <= {report.resolve().as_uri(), "data:,"}
    assert page.evaluate("performance.getEntriesByType('resource').length") == 0


def shown(page: Page) -> int:
    """Places that are seen and match, counted in the page itself."""
    return int(page.evaluate(VISIBLE))


def count(page: Page, selector: str) -> int:
    return int(page.evaluate(f"document.querySelectorAll(`{selector}`).length"))


@pytest.mark.parametrize(("width", "dark"), [(PHONE, True), (DESKTOP, False)])
def test_nothing_is_wider_than_the_screen_nor_asked_of_a_network(
    browser: Browser, whole_report: Path, width: int, dark: bool
) -> None:
    report = whole_report
    page = browser.page(report, width=width, dark=dark)
    sizes = "[innerWidth, document.documentElement.scrollWidth, document.body.scrollWidth]"
    assert page.evaluate(sizes) == [width] * 3
    page.evaluate("document.querySelectorAll('details').forEach(each => each.open = true)")
    page.settle()
    assert page.evaluate(sizes) == [width] * 3
    ink, paper = page.evaluate(
        "[getComputedStyle(document.body).color, getComputedStyle(document.body).backgroundColor]"
    )
    assert (brightness(ink) > brightness(paper)) is dark
    quiet(page, report)
    page.close()


def brightness(colour: str) -> int:
    return sum(int(part) for part in colour.removeprefix("rgb(").removesuffix(")").split(","))


def test_a_request_that_left_the_page_would_be_noticed(browser: Browser, tmp_path: Path) -> None:
    (tmp_path / "picture.png").write_bytes(b"")
    path = tmp_path / "index.html"
    path.write_text("<!doctype html><title>x</title><img src=picture.png><script>console.error('x')</script>")
    page = browser.page(path, width=PHONE)
    with pytest.raises(AssertionError):
        quiet(page, path)
    assert any("picture.png" in url for url in page.requests) and page.complaints
    page.close()


def test_a_filter_by_verdict_leaves_these_and_counts_them(desktop: Page) -> None:
    every = shown(desktop)
    below = count(desktop, "td.c[data-v~=below]")
    unstable = count(desktop, "td.c[data-v~=unstable]")
    assert 0 < below < every and unstable > 0
    desktop.click("input[value=below]")
    assert shown(desktop) == below
    assert desktop.evaluate("document.querySelector('.chip input[value=below] + span b').textContent") == str(below)
    desktop.click("input[value=unstable]")
    assert shown(desktop) == count(desktop, "td.c[data-v~=below], td.c[data-v~=unstable]")
    assert desktop.evaluate("document.getElementById('matches').textContent").startswith(f"{shown(desktop)} of {every}")
    desktop.click("button[type=reset]")
    assert shown(desktop) == every
    assert desktop.evaluate("location.hash") == ""


def test_filters_by_table_and_text_work_together(desktop: Page) -> None:
    desktop.write("#filter-text", "VID resnet-56")
    assert 0 < shown(desktop) < 10
    names = "[...document.querySelectorAll('section.table')].filter(s => s.checkVisibility()).map(s => s.id)"
    assert "table9" in desktop.evaluate(names)
    desktop.evaluate("document.getElementById('filter-table').value = 'table2'")
    desktop.evaluate("document.getElementById('filters').dispatchEvent(new Event('input'))")
    assert shown(desktop) == 0
    assert desktop.evaluate("document.getElementById('nothing').checkVisibility()")
    desktop.click("#clear")
    assert shown(desktop) == desktop.evaluate("document.querySelectorAll('td.c').length")


def test_text_filters_claims_too(desktop: Page) -> None:
    claims = "[...document.querySelectorAll('.claim')].filter(claim => claim.checkVisibility()).length"
    every = desktop.evaluate(claims)
    desktop.write("#filter-text", "surpassing dkd")
    assert 0 < desktop.evaluate(claims) < every


def test_the_address_keeps_the_filters(browser: Browser, report: Path, desktop: Page) -> None:
    desktop.click("input[value=below]")
    desktop.write("#filter-text", "fgd")
    address, left = desktop.evaluate("location.hash"), shown(desktop)
    assert address == "#verdict=below&text=fgd" and left > 0
    again = browser.page(report, width=DESKTOP, fragment=address)
    assert shown(again) == left
    assert again.evaluate("document.getElementById('filter-text').value") == "fgd"
    again.close()


def test_a_link_of_the_contents_keeps_the_filters_where_it_can(desktop: Page) -> None:
    desktop.click("input[value=below]")
    left = shown(desktop)
    desktop.click('.contents a[href="#claims"]')
    assert desktop.evaluate("location.hash") == "#claims&verdict=below"
    assert shown(desktop) == left
    top = desktop.evaluate("document.getElementById('claims').getBoundingClientRect().top")
    bar = desktop.evaluate("document.getElementById('filters').getBoundingClientRect().bottom")
    assert bar <= top < 300, "the heading is not under the bar"


def test_a_link_to_a_table_that_a_filter_hides_shows_it(desktop: Page) -> None:
    desktop.write("#filter-text", "wrn-40-2")
    assert not desktop.evaluate("document.getElementById('table2').checkVisibility()")
    desktop.click('.contents a[href="#table2"]')
    assert desktop.evaluate("document.getElementById('table2').checkVisibility()")
    assert desktop.evaluate("location.hash") == "#table2"


@pytest.mark.parametrize("width", [PHONE, DESKTOP])
def test_a_cell_opens_its_details_and_closes_them(browser: Browser, report: Path, width: int) -> None:
    page = browser.page(report, width=width)
    cell = "#table9 td.c[data-v~=below] button"
    name = page.evaluate(f"document.querySelector('{cell}').getAttribute('popovertarget')")
    opened = f"document.getElementById('{name}').matches(':popover-open')"
    page.click(cell)
    assert page.evaluate(opened)
    assert "interval of the gap" in page.evaluate(f"document.getElementById('{name}').innerText")
    assert count(page, f"#{name} .runs tbody tr") >= 3
    assert count(page, f"#{name} svg.curve") == 2
    assert page.evaluate("location.hash") == f"#{name}"
    box = page.evaluate(f"(r => [r.left, r.right])(document.getElementById('{name}').getBoundingClientRect())")
    assert 0 <= box[0] < box[1] <= width
    assert page.evaluate("document.documentElement.scrollWidth") == width
    assert page.evaluate(f"(e => e.scrollWidth <= e.clientWidth)(document.getElementById('{name}'))")
    page.click(f"#{name} .close")
    assert not page.evaluate(opened)
    quiet(page, report)
    page.close()


def test_the_keyboard_reaches_everything(desktop: Page) -> None:
    cell = "document.querySelector('#table9 td.c button')"
    name = desktop.evaluate(f"{cell}.getAttribute('popovertarget')")
    opened = f"document.getElementById('{name}').matches(':popover-open')"
    desktop.evaluate(f"{cell}.focus()")
    desktop.press(*ENTER)
    assert desktop.evaluate(opened)
    assert desktop.evaluate(f"document.activeElement.id === '{name}'")
    desktop.press(*ESCAPE)
    assert not desktop.evaluate(opened)
    assert desktop.evaluate(f"document.activeElement === {cell}"), "the focus comes back"
    desktop.evaluate("document.querySelector('input[value=below]').focus()")
    desktop.press(*SPACE)
    assert desktop.evaluate("location.hash") == "#verdict=below"


def test_an_address_leads_to_a_cell(browser: Browser, report: Path) -> None:
    page = browser.page(report, width=PHONE, fragment="#table9-3-2")
    assert page.evaluate("document.getElementById('table9-3-2').matches(':popover-open')")
    quiet(page, report)
    page.close()


def test_a_gap_in_a_plot_leads_to_its_cell(desktop: Page) -> None:
    desktop.evaluate("document.querySelector('#table2 .plot-box').open = true")
    name = desktop.evaluate("document.querySelector('#table2 .gap-row').getAttribute('href').slice(1)")
    desktop.click("#table2 .gap-row .label")
    assert desktop.evaluate(f"document.getElementById('{name}').matches(':popover-open')")


def test_details_of_a_claim_open(desktop: Page) -> None:
    answer = "document.querySelector('.claim .answer').checkVisibility()"
    assert not desktop.evaluate(answer)
    desktop.click(".claim summary")
    assert desktop.evaluate(answer)


def test_without_scripts_cells_still_open_and_no_dead_filter_is_shown(browser: Browser, report: Path) -> None:
    page = browser.page(report, width=DESKTOP, scripts=False)
    assert not page.evaluate("document.getElementById('filters').checkVisibility()")
    page.click("#table9 td.c button")
    assert page.evaluate("document.querySelectorAll('.details:popover-open').length") == 1
    page.close()


def test_on_paper_there_are_the_tables_and_nothing_to_click(desktop: Page) -> None:
    desktop.ask("Emulation.setEmulatedMedia", media="print")
    hidden = "['#filters', '.contents', '.details'].filter(name => document.querySelector(name).checkVisibility())"
    assert desktop.evaluate(hidden) == []
    assert shown(desktop) == count(desktop, "td.c")
    grounds = "new Set([...document.querySelectorAll('td.c')].map(cell => getComputedStyle(cell).backgroundColor)).size"
    assert desktop.evaluate(grounds) == 1, "colours that a grey print would muddle are gone; word and sign are not"
    widest = "Math.max(...[...document.querySelectorAll('.paper')].map(table => table.getBoundingClientRect().right))"
    # A4 less its margins, at 96 dots an inch.
    desktop.ask("Emulation.setDeviceMetricsOverride", width=703, height=994, deviceScaleFactor=1, mobile=False)
    desktop.settle()
    assert desktop.evaluate(widest) <= 703


def test_an_empty_comparison_is_a_page_too(browser: Browser, tmp_path: Path) -> None:
    path = write_html(synthetic.empty(), tmp_path)
    page = browser.page(path, width=PHONE)
    assert "No run is recorded" in page.evaluate("document.getElementById('empty').innerText")
    quiet(page, path)
    page.close()
