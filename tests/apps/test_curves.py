"""Averages and spreads worked by hand."""

import json
import math

import pytest

from distilset.apps.curves import Curve, Point, Spread, curves, plot, summarise

SETTINGS = {
    "continual": {"ipc": 2, "split": "test", "protocol": "quick"},
    "data": {"name": "drawn"},
}


def row(method, order, task, trial, accuracy, seen=2, images=4, size=256):
    values = {"method": method, "order": order, "task": task, "trial": trial}
    values |= {"accuracy": accuracy, "seen": seen, "images": images, "bytes": size}
    return {name: str(value) for name, value in values.items()}


ROWS = [
    *(row("dm", 1, 1, 1, 90.0), row("dm", 1, 1, 2, 70.0)),
    *(row("dm", 1, 2, 1, 50.0, 4, 8, 512), row("dm", 1, 2, 2, 30.0, 4, 8, 512)),
    *(row("dm", 2, 1, 1, 60.0), row("dm", 2, 1, 2, 60.0)),
    *(row("dm", 2, 2, 1, 40.0, 4, 8, 512), row("dm", 2, 2, 2, 20.0, 4, 8, 512)),
]


def test_a_study_of_two_orders_by_hand():
    (curve,) = curves(ROWS, tasks=2)
    first, last = curve.points
    assert (first.seen, first.images, first.bytes) == (2, 4, 256)
    assert (last.seen, last.images, last.bytes) == (4, 8, 512)
    assert first.accuracy.values == ((90.0, 70.0), (60.0, 60.0))
    assert first.accuracy.mean == 70.0  # (90 + 70 + 60 + 60) / 4
    assert first.accuracy.std == pytest.approx(math.sqrt(600 / 4))
    assert first.accuracy.std_orders == 10.0  # of 80 and 60
    assert first.accuracy.std_trials == pytest.approx(math.sqrt(200 / 4))  # +-10, +-10, 0, 0
    assert first.accuracy.text == "70.00 ± 12.25 (4)"
    assert curve.average.values == ((70.0, 50.0), (50.0, 40.0))
    assert curve.average.mean == 52.5
    assert curve.facts()[1]["values"] == [[50.0, 30.0], [40.0, 20.0]]


def test_the_parts_of_the_spread_add_up():
    spread = Spread(((90.0, 70.0, 71.0), (60.0, 60.5, 12.0)))
    assert spread.std**2 == pytest.approx(spread.std_orders**2 + spread.std_trials**2)


def test_unfinished_orders_and_damaged_rows_are_left_out():
    more = [row("dm", 3, 1, 1, 10.0), {**ROWS[0], "order": "x"}, {"method": "dm"}]
    assert curves([*ROWS, *more], 2) == curves(ROWS, 2)
    assert curves(more, 2) == []


def test_a_network_that_diverged_is_told():
    (curve,) = curves([*ROWS[:7], row("dm", 2, 2, 2, math.nan, 4, 8, 512)], 2)
    assert curve.points[1].accuracy.text == "diverged (1 of 4)"
    facts = json.loads(json.dumps(curve.facts(), allow_nan=False))
    assert facts[1]["mean"] is None
    assert facts[1]["values"] == [[50.0, 30.0], [40.0, None]]


def test_the_table_and_the_plot(tmp_path):
    single = Spread(((50.0,),))
    other = Curve("random", (Point(1, 2, 4, 256, single), Point(2, 4, 8, 512, single)))
    found = [*curves(ROWS, 2), other]
    summary = summarise(found, SETTINGS)
    assert summary.head[1:4] == ("after 2 classes", "after 4 classes", "average")
    assert summary.rows[0][0:2] == ("dm", "70.00 ± 12.25 (4)")
    assert summary.rows[0][3:] == ("52.50 ± 10.90 (4)", "7.50", "7.91")
    assert summary.rows[1][1:] == ("50.00 (1)", "50.00 (1)", "50.00 (1)", "–", "–")
    assert "8 images, 512 bytes" in summary.lede
    plot(found, tmp_path)
    assert (tmp_path / "plot-accuracy.png").read_bytes().startswith(b"\x89PNG")
    text = (tmp_path / "plot-accuracy.svg").read_text()
    assert text.count("random") >= 1
    assert "classes seen" in text
