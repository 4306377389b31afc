import pytest

from distilset.reporting.charts import cost_charts, loss_chart
from distilset.reporting.collect import all_results, read_runs
from distilset.reporting.scales import Scale, round_values, seconds_text, short, smoothed
from tests.reporting.runs import add_baseline, add_scores, make_run


def test_a_scale_maps_its_ends_and_its_middle():
    scale = Scale(0.0, 10.0, 100.0, 300.0)
    assert [scale(0.0), scale(5.0), scale(10.0)] == [100, 200, 300]
    log = Scale(1.0, 100.0, 200.0, 0.0, log=True)
    assert [log(1.0), log(10.0), log(100.0)] == [200, 100, 0]
    assert Scale(3.0, 3.0, 0.0, 10.0)(3.0) == 5


@pytest.mark.parametrize(
    ("low", "high", "expected"),
    [
        (0.0, 10.0, [0, 2, 4, 6, 8, 10]),
        (71.3, 79.9, [72, 74, 76, 78]),
        (0.0, 0.3, [0, 0.05, 0.1, 0.15, 0.2, 0.25, 0.3]),
        (5.0, 5.0, [5]),
    ],
)
def test_ticks_are_round(low, high, expected):
    assert round_values(low, high, 5) == pytest.approx(expected)


def test_logarithmic_ticks_lie_inside_and_are_few():
    ticks = Scale(0.3, 4000.0, 0.0, 1.0, log=True).ticks()
    assert ticks == pytest.approx([1, 10, 100, 1000])
    assert Scale(2.0, 60.0, 0.0, 1.0, log=True).ticks() == pytest.approx([2, 5, 10, 20, 50])


def test_numbers_as_axes_write_them():
    assert [short(v) for v in (0.0, 0.5, 150.0, 1500.0, 2e7)] == ["0", "0.5", "150", "1.5k", "2e7"]
    assert [seconds_text(s) for s in (1.5, 119.0, 150.0, 9000.0)] == [
        "1.5 s", "119 s", "2.5 min", "2.5 h"
    ]  # fmt: skip


def test_smoothing_keeps_lines_and_evens_noise():
    assert smoothed([1.0, 2.0, 3.0, 4.0, 5.0], 2) == pytest.approx([1, 2, 3, 4, 5])
    assert smoothed([0.0, 3.0, 0.0], 1) == pytest.approx([0, 1, 0])


def test_the_loss_chart_has_time_below_the_steps(tmp_path):
    run = read_runs([make_run(tmp_path / "run")])[0]
    chart = loss_chart(run)
    assert [(t.text, t.below) for t in chart.x_ticks] == [
        ("1", "0.5 s"), ("2", "1 s"), ("3", "1.5 s"), ("4", "2 s"),
    ]  # fmt: skip
    assert len(chart.lines[1].points.split()) == 4
    assert "4 steps in 2 s" in chart.says


def test_accuracy_over_cost_has_a_point_for_each_length_and_lines_for_baselines(tmp_path):
    run = make_run(tmp_path / "run")
    add_scores(run, [40.0, 44.0], steps=2)
    add_scores(run, [50.0, 54.0], steps=4)
    add_baseline(run, "random", [30.0, 31.0])
    runs = read_runs([run])
    (chart,) = cost_charts(runs, all_results(runs))
    paid, free = chart.lines
    assert (paid.kind, free.kind) == ("line", "dashed")
    first, second = paid.dots
    assert "42.00 % after 1 s, 2 steps" in first.says
    assert "52.00 % after 2 s, 4 steps" in second.says
    assert first.x < second.x
    assert first.y > second.y  # up is less in SVG
    assert first.low > first.y > first.high
