import re

import pytest

from benchmark.report.plots import (
    FEWEST_POINTS,
    MOST_POINTS,
    GapRow,
    Line,
    ReferenceLine,
    curve_plot,
    decades_between,
    gap_plot,
    points_each,
    thinned,
    ticks_between,
)


def row(**changes: object) -> GapRow:
    plain = {
        "label": "KD, ResNet-56 → ResNet-20",
        "gap": -0.2,
        "low": -0.5,
        "high": 0.1,
        "margin": 0.3,
        "tone": "neutral",
        "word": "consistent",
        "symbol": "≈",
        "anchor": "table9-1-1",
    }
    return GapRow(**(plain | changes))  # type: ignore[arg-type]


def x_of(svg: str, kind: str) -> list[float]:
    return [float(found) for found in re.findall(rf'<{kind} [^>]*?cx="([\d.]+)"', svg)]


@pytest.mark.parametrize(
    ("low", "high", "about", "expected"),
    [
        (0, 240, 5, (0, 50, 100, 150, 200)),
        (-0.55, 0.55, 5, (-0.4, -0.2, 0, 0.2, 0.4)),
        (68.3, 70.9, 5, (68.5, 69, 69.5, 70, 70.5)),
        (5, 5, 5, (5,)),
    ],
)
def test_ticks_are_round_numbers_within_the_range(
    low: float, high: float, about: int, expected: tuple[float, ...]
) -> None:
    assert ticks_between(low, high, about) == pytest.approx(expected)


def test_ticks_of_a_logarithmic_axis_are_one_two_five_or_powers_alone() -> None:
    assert decades_between(0.15, 3) == pytest.approx((0.2, 0.5, 1, 2))
    assert decades_between(0.001, 900) == pytest.approx((0.001, 0.01, 0.1, 1, 10, 100))


def test_thinning_keeps_the_first_the_last_and_the_highest() -> None:
    points = tuple((float(epoch), 99.0 if epoch == 101 else epoch / 10) for epoch in range(1, 241))
    kept = thinned(points, 40)
    assert len(kept) <= 40
    assert kept[0] == points[0] and kept[-1] == points[-1]
    assert (101.0, 99.0) in kept
    assert list(kept) == sorted(kept)
    assert thinned(points[:40], 40) == points[:40]


def test_a_page_of_many_lines_gives_each_fewer_points() -> None:
    assert points_each(0) == MOST_POINTS
    assert points_each(10) == MOST_POINTS
    assert FEWEST_POINTS < points_each(2000) < MOST_POINTS
    assert points_each(10**6) == FEWEST_POINTS


def test_gaps_stand_in_order_of_size_around_zero() -> None:
    svg = gap_plot([row(gap=gap, low=gap - 0.1, high=gap + 0.1) for gap in (-0.4, 0.0, 0.4)], "title", "p")
    below, zero, above = x_of(svg, "circle")
    assert above - zero == pytest.approx(zero - below, abs=0.2)
    line = re.search(r'class="zero"', svg)
    assert line is not None and f'x1="{zero:g}"' in svg


def test_an_interval_that_would_flatten_the_others_ends_in_arrows() -> None:
    svg = gap_plot([row(), row(low=-9.0, high=9.0)], "title", "p")
    caps = re.findall(r'<path d="(M[^"]*)" class="interval"/>', svg)
    assert ["L" in cap for cap in caps] == [False, False, True, True]


def test_a_plot_names_itself_and_says_its_numbers_in_words() -> None:
    svg = gap_plot([row()], "Table 9: gaps", "p")
    assert '<title id="p-t">Table 9: gaps</title>' in svg and 'aria-labelledby="p-t"' in svg
    assert "KD, ResNet-56 → ResNet-20: -0.20, consistent" in svg
    assert "achieved minus published, in points" in svg
    assert 'href="#table9-1-1"' in svg and "tone-neutral" in svg


def test_labels_are_text() -> None:
    svg = gap_plot([row(label="<b>&", word="<i>", anchor='"><x')], "<title>", "p")
    assert "<b>" not in svg and "<i>" not in svg and "<x" not in svg
    assert "&lt;b&gt;&amp;" in svg


def test_a_gap_of_nothing_within_no_margin_is_drawn() -> None:
    assert "<circle" in gap_plot([row(gap=0.0, low=0.0, high=0.0, margin=0.0)], "title", "p")


def lines_of(svg: str) -> list[list[tuple[float, float]]]:
    """The corners of every line, from its steps."""
    found = []
    for path in re.findall(r'<path d="M([^"]*)" class="line', svg):
        start, steps = path.split("l")
        x, y = map(float, start.split())
        corners = [(x, y)]
        numbers = [float(number) for number in re.findall(r"-?[\d.]+", steps)]
        for dx, dy in zip(numbers[::2], numbers[1::2], strict=True):
            x, y = x + dx, y + dy
            corners.append((x, y))
        found.append(corners)
    return found


def test_a_curve_goes_through_its_points() -> None:
    points = ((1.0, 10.0), (2.0, 30.0), (3.0, 20.0), (4.0, 40.0))
    (corners,) = lines_of(curve_plot([Line("r0", points)], "title", "p", "top1, %", 60))
    xs, ys = zip(*corners, strict=True)
    assert xs[1] - xs[0] == pytest.approx(xs[3] - xs[2], abs=0.2)
    assert ys[0] - ys[1] == pytest.approx(2 * (ys[2] - ys[1]), abs=0.3), "upwards is smaller in SVG"
    assert ys[3] < ys[1] < ys[2] < ys[0]


def test_equal_ratios_are_equal_distances_on_a_logarithmic_axis() -> None:
    points = ((1.0, 1.0), (2.0, 10.0), (3.0, 100.0))
    (corners,) = lines_of(curve_plot([Line("loss", points)], "title", "p", "loss", 60, log=True))
    ys = [y for _, y in corners]
    assert ys[0] - ys[1] == pytest.approx(ys[1] - ys[2], abs=0.2)


def test_a_quantity_that_is_not_positive_is_drawn_linearly() -> None:
    points = ((1.0, -1.0), (2.0, 0.0), (3.0, 1.0))
    (corners,) = lines_of(curve_plot([Line("loss", points)], "title", "p", "loss", 60, log=True))
    ys = [y for _, y in corners]
    assert ys[0] - ys[1] == pytest.approx(ys[1] - ys[2], abs=0.2)


def test_axes_and_levels_are_labelled_and_one_epoch_is_a_dot() -> None:
    svg = curve_plot([Line("r0", ((1.0, 70.0),))], "title", "p", "top1, %", 60, [ReferenceLine("published 71.0", 71.0)])
    assert ">epoch<" in svg and ">top1, %<" in svg and ">published 71.0<" in svg
    assert "<circle" in svg
