import math

import pytest

from distilset.errors import DataError
from distilset.reporting.collect import all_results, read_run, read_runs
from tests.reporting.runs import add_baseline, add_scores, make_run


@pytest.fixture
def run(tmp_path):
    return make_run(tmp_path / "run")


def test_networks_of_one_way_of_training_are_one_result(run):
    add_scores(run, [50.0, 60.0])
    add_scores(run, [70.0], seed=1)
    add_scores(run, [10.0], protocol="dm")
    add_scores(run, [20.0], labels="soft")
    found = {(r.setting["protocol"], r.setting["labels"]): r for r in read_run(run).results}
    assert {key: r.accuracies for key, r in found.items()} == {
        ("quick", "hard"): (50.0, 60.0, 70.0),
        ("dm", "hard"): (10.0,),
        ("quick", "soft"): (20.0,),
    }
    pooled = found["quick", "hard"]
    assert (pooled.mean, pooled.std) == (60.0, pytest.approx(math.sqrt(200 / 3)))
    assert (pooled.seconds, pooled.method, pooled.ipc, pooled.images) == (4.5, "dm", 2, 6)


def test_a_network_trained_again_counts_once_as_trained_last(run):
    add_scores(run, [50.0, 60.0])
    add_scores(run, [51.0, 61.0])
    assert [r.accuracies for r in read_run(run).results] == [(51.0, 61.0)]


def test_scores_of_fewer_steps_are_earlier_ones(run):
    add_scores(run, [50.0], steps=2)
    add_scores(run, [60.0], steps=4)
    facts = read_run(run)
    assert [r.accuracies for r in facts.results] == [(60.0,)]
    assert [(r.steps, r.accuracies) for r in facts.earlier] == [(2, (50.0,))]


def test_losses_are_read_and_a_cut_off_line_is_left_out(run):
    losses = read_run(run).losses
    assert [line.step for line in losses] == [1, 2, 3, 4]
    assert losses[1].loss == 4.5
    assert losses[-1].seconds == 2.0


def test_a_baseline_beside_two_runs_is_one_row_and_its_last_score_counts(tmp_path):
    runs = [make_run(tmp_path / name) for name in ("one", "two")]
    for run in runs:
        add_scores(run, [60.0])
        add_baseline(run, "random", [30.0, 31.0])
        add_baseline(run, "random", [32.0, None])
        add_baseline(run, "whole", [90.0], ipc=None, protocol="whole")
    found = all_results(read_runs([*runs, runs[0]]))
    assert [r.name for r in found] == [*map(str, runs), "baseline random", "baseline whole"]
    assert found[2].finite == (32.0,)
    assert found[2].diverged == 1
    assert math.isnan(found[2].mean)
    assert [r.reference for r in found] == [False, False, False, True]


def test_a_run_that_was_never_scored_has_no_results(run):
    facts = read_run(run)
    assert (facts.results, facts.baselines) == ((), ())
    assert ("distilled.json", (run / "distilled.json").stat().st_size) in facts.files


def test_damaged_scores_are_named(run):
    (run / "scores.csv").write_text("run,accuracy\nx,1\n")
    with pytest.raises(DataError, match=r"scores\.csv is damaged"):
        read_run(run)
    (run / "scores.csv").unlink()
    add_scores(run, ["many"])
    with pytest.raises(DataError, match=r"scores\.csv is damaged"):
        read_run(run)
    (run / "scores.csv").unlink()
    add_scores(run, [1.0])
    with (run / "scores.csv").open("a") as file:
        file.write("a" + ",b" * 20 + "\n")
    with pytest.raises(DataError, match="more cells"):
        read_run(run)
    (run / "scores.csv").unlink()
    (run / "baselines.jsonl").write_text('{"run": "x"}\n')
    with pytest.raises(DataError, match=r"baselines\.jsonl is damaged"):
        read_run(run)
