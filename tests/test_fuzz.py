"""Some hundred cases of damage for every loader; ``benchmarks/fuzz.py`` runs any number."""

import sys
from collections import Counter
from contextlib import suppress

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from distilset.errors import DistilsetError, plain
from distilset.exchange.machine import Damaged, Refused, run
from distilset.exchange.names import folder_name
from distilset.reporting.scales import Scale, room, round_values
from distilset.untrusted import parse_json, parse_toml
from tests.fuzzing import LOADERS, Bench

CASES = 200


@pytest.fixture(autouse=True)
def _evil(tmp_path, monkeypatch):
    """A module that damaged files name: importing it would leave a file."""
    (tmp_path / "evil").mkdir()
    for name in ("evil_module", "convnet"):
        code = f"open({str(tmp_path / 'fired')!r}, 'w')\n"
        (tmp_path / "evil" / f"{name}.py").write_text(code)
    monkeypatch.syspath_prepend(str(tmp_path / "evil"))
    yield
    assert not (tmp_path / "fired").exists()
    assert not {"evil_module", "convnet"} & set(sys.modules)


@pytest.mark.parametrize("name", LOADERS)
def test_damaged_input_is_read_or_refused_and_nothing_else(name, tmp_path):
    bench = Bench(name, tmp_path / "case")
    found = Counter(bench.case(0, number) for number in range(0, CASES, LOADERS[name].every))
    assert set(found) <= {"read", "refused"}, found
    assert bool(found["refused"]) != LOADERS[name].mends


def test_the_watch_sees_what_a_loader_must_not_do(tmp_path, monkeypatch):
    """A check that cannot fail would be none."""
    from dataclasses import replace

    def leaks(folder):
        (folder.parent / "outside").write_text("x")

    def raises(folder):
        return {}["missing"]

    def tells(folder):
        raise DistilsetError("one\ntwo")

    expected = ((leaks, "escaped"), (raises, "raised KeyError"), (tells, "refused"))
    for number, (load, outcome) in enumerate(expected):
        bench = Bench("settings", tmp_path / str(number))
        bench.loader = replace(bench.loader, load=load)
        assert bench.case(0, 0).startswith(outcome)


names = st.text(st.characters(codec=None, exclude_categories=()), max_size=300)


@given(names)
def test_any_name_is_shown_on_one_line_and_makes_one_folder(name):
    shown = plain(name)
    assert len(shown.splitlines()) <= 1
    assert "\x1b" not in shown
    shown.encode()
    clean = name.encode("utf-8", "replace").decode()
    made = folder_name(clean)
    assert made
    assert len(made.encode()) <= 121
    assert not set(made) & set('/\\:*?"<>|\0')
    assert made not in (".", "..")
    assert not made.startswith(".")


@given(st.binary(max_size=400) | st.text(max_size=200).map(str.encode))
@settings(max_examples=300)
def test_any_bytes_are_no_more_than_refused_by_the_machine(content):
    import io

    # Bytes that are no instructions raise the standard library's errors.
    usual = (Refused, Damaged, ValueError, LookupError, TypeError, AttributeError, OverflowError)
    with suppress(*usual):
        run(io.BytesIO(content + b"."), {}, lambda named: None)


values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | names,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(names, inner, max_size=3),
    max_leaves=20,
)


@given(values)
@settings(max_examples=200)
def test_what_json_gives_can_be_printed_and_computed_with(value):
    import json

    try:
        found = parse_json(json.dumps(value))
    except ValueError:
        return
    json.dumps(found, ensure_ascii=False, allow_nan=False).encode()


@given(st.text(max_size=200))
@settings(max_examples=200)
def test_any_text_is_toml_or_a_value_error(text):
    with suppress(ValueError):
        parse_toml(text)


sizes = st.floats(min_value=-1e15, max_value=1e15, allow_nan=False)


@given(st.lists(sizes, min_size=2, max_size=5), st.booleans())
@settings(max_examples=200)
def test_any_numbers_make_an_axis(numbers, log):
    log = log and min(numbers) > 0
    scale = Scale(*room(numbers, log), 0.0, 100.0, log)
    assert all(isinstance(scale(value), float) for value in numbers)
    scale.ticks()
    assert round_values(min(numbers), max(numbers), 5)
