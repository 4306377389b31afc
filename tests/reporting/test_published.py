from dataclasses import replace

import pytest

from distilset.data.known import KNOWN
from distilset.reporting.collect import read_runs
from distilset.reporting.page import Real, compose, to_html
from distilset.reporting.published import beside_published, figures
from tests.reporting.runs import add_baseline, add_scores, make_run


def test_figures_are_of_known_data_and_plausible():
    found = figures()
    assert {f.dataset for f in found} <= set(KNOWN)
    assert all(0 < f.mean < 100 for f in found)
    assert len({(f.dataset, f.method, f.ipc) for f in found}) == len(found)
    datadam = {f.ipc: f.text for f in found if (f.dataset, f.method) == ("cifar10", "datadam")}
    assert datadam == {1: "32.0 ± 1.2", 10: "54.2 ± 0.8", 50: "67.0 ± 0.4"}
    assert [f.verified for f in found if f.method == "atom"] == [False] * 9
    by_ipc = {}
    for f in found:
        if f.method in ("random", "dm", "datadam") and f.ipc:
            by_ipc.setdefault((f.dataset, f.method), []).append((f.ipc, f.mean))
    assert all(values == sorted(values, key=lambda v: v[1]) for values in by_ipc.values())


@pytest.fixture
def cifar(tmp_path):
    def make(name, *, method, ipc=10, like=None, dataset="cifar10"):
        info = {"name": dataset, "like": like}
        run = make_run(tmp_path / name, method=method, ipc=ipc, dataset=info)
        add_scores(run, [40.0, 42.0])
        return run

    return make


def test_a_figure_is_found_where_data_method_and_ipc_match(cifar):
    runs = [
        cifar("a", method="datadam"),
        cifar("b", method="atom", like="cifar10", dataset="folder"),
        cifar("c", method="datadam", ipc=3),
        cifar("d", method="dm", dataset="digits"),
    ]
    add_scores(runs[0], [41.0], split="val")
    pairs = beside_published(read_runs(runs))
    assert [(p.ours.method, p.published.text) for p in pairs] == [
        ("datadam", "54.2 ± 0.8"),
        ("atom", "57.9 ± 0.7"),
    ]
    first, second = pairs
    assert "norm instance, theirs batch" in first.differences
    assert "without ZCA, theirs with" in first.differences
    assert "120 epochs, theirs 1800" in first.differences
    assert "protocol quick, theirs like our datadam" in first.differences
    assert "norm instance, theirs not stated" in second.differences


def test_what_no_paper_does_is_told(cifar):
    (run,) = read_runs([cifar("a", method="atom")])
    added = {"experts": {"number": 4}, "method": {"class_weight": 1.0}}
    told = replace(run, distilled=replace(run.distilled, settings=added))
    assert not any("theirs untrained" in d for d in beside_published([run])[0].differences)
    first, second, *_ = beside_published([told])[0].differences
    assert "networks trained on the real images" in first
    assert "cross-entropy in the loss" in second


def test_the_page_states_the_difference_and_what_is_unverified(cifar):
    runs = read_runs([cifar("a", method="atom")])
    text = to_html(compose(runs, {run.name: Real(None) for run in runs}))
    assert "57.9 ± 0.7" in text
    assert "unverified" in text
    assert "Differs:" in text


def test_baselines_match_too(cifar):
    run = cifar("a", method="datadam")
    add_baseline(run, "random", [20.0, 21.0], ipc=10)
    text = (run / "baselines.jsonl").read_text().replace('"drawn"', '"cifar10"')
    (run / "baselines.jsonl").write_text(text)
    pairs = beside_published(read_runs([run]))
    assert [(p.ours.method, p.published.mean) for p in pairs] == [("datadam", 54.2), ("random", 26)]
