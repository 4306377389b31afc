from dataclasses import replace
from itertools import combinations, pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from distilset.engine import EngineSettings, cut, cut_evenly
from distilset.errors import ConfigError
from distilset.parallel import classes
from distilset.parallel.classes import balanced, check_device, check_spread, cost_of, share_of
from distilset.plan import make_plan
from distilset.share import Share
from distilset.testing import small_config
from tests.small import splits

COUNTS = st.lists(st.integers(1, 20), min_size=1, max_size=8)


@given(COUNTS, st.integers(1, 6), st.integers(1, 40), st.booleans(), st.booleans())
@settings(max_examples=100, deadline=None)
def test_a_span_costs_the_pieces_it_touches(counts, ipc, chunk, coupled, compiled):
    how = EngineSettings(chunk=chunk, compile=compiled)
    cost = cost_of(counts, ipc, how, coupled=coupled)
    pieces = [(p, 1) for p in cut(counts, chunk)]
    pieces += [(p, 3) for p in cut_evenly(ipc, len(counts), max(ipc, chunk))]
    for first, last in combinations(range(len(counts) + 1), 2):
        own = sum(counts[first:last]) + 3 * ipc * (last - first)
        touched = sum(
            times * (p.size if compiled else p.rows.stop - p.rows.start)
            for p, times in pieces
            if p.classes.start < last and p.classes.stop > first
        )
        assert cost(first, last) == (own if coupled else touched)


@given(COUNTS, st.integers(1, 4), st.integers(1, 30), st.data())
@settings(max_examples=100, deadline=None)
def test_spans_are_the_best_of_all(counts, ipc, chunk, data):
    parts = data.draw(st.integers(1, len(counts)))
    cost = cost_of(counts, ipc, EngineSettings(chunk=chunk), coupled=False)
    spans = balanced(len(counts), parts, cost)
    assert len(spans) == parts
    assert all(first < last for first, last in spans)
    assert [spans[0][0], *(last for _, last in spans)] == [*(a for a, _ in spans), len(counts)]
    every = [
        max(cost(*span) for span in pairwise([0, *inner, len(counts)]))
        for inner in combinations(range(1, len(counts)), parts - 1)
    ]
    assert max(cost(*span) for span in spans) == min(every)


@pytest.mark.parametrize("compiled", [False, True])
@pytest.mark.parametrize("number", [10, 100])
def test_two_processes_waste_nothing_at_ten_images_per_class(number, compiled):
    how = EngineSettings(chunk=32, compile=compiled)
    cost = cost_of([128] * number, 10, how, coupled=False)
    spans = balanced(number, 2, cost)
    assert spans == ((0, number // 2), (number // 2, number))
    assert max(cost(*span) for span in spans) * 2 == cost(0, number)


def test_even_groups_cover_every_class_and_fit_the_chunk():
    groups = cut_evenly(10, 10, 32)
    assert [p.classes.stop - p.classes.start for p in groups] == [2, 3, 2, 3]
    assert [p.rows.start for p in groups] == [0, 20, 50, 70]
    assert {p.size for p in groups} == {30}
    assert [p.rows.stop for p in cut_evenly(50, 3, 32)] == [50, 100, 150]


def test_more_processes_than_classes_are_refused(monkeypatch):
    plan = make_plan(small_config("dm", {}), splits().train)
    assert share_of(plan.task) is None
    monkeypatch.setattr(classes, "size", lambda: 4)
    with pytest.raises(
        ConfigError, match="3 classes can be spread over 3 processes at most; got 4"
    ):
        share_of(plan.task)


def test_a_method_that_keeps_its_losses_to_itself_is_refused():
    task = make_plan(small_config("dm", {}), splits().train).task
    check_spread("mine", object(), task)
    spread = replace(task, share=Share(((0, 1), (1, 3)), 0, lambda x: x))
    with pytest.raises(ConfigError, match="method mine cannot be spread over processes"):
        check_spread("mine", object(), spread)


def test_every_process_takes_a_gpu_of_its_own(monkeypatch):
    monkeypatch.setattr(classes, "local_rank", lambda: 1)
    monkeypatch.setattr(classes.torch.cuda, "device_count", lambda: 1)
    with pytest.raises(ConfigError, match="a GPU of its own"):
        check_device("cuda:0")
    with pytest.raises(ConfigError, match="has 1 GPUs"):
        check_device("cuda")
    check_device("cpu")
