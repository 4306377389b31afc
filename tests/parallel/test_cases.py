"""Several processes make what one makes: bit for bit, or within rounding with BatchNorm."""

import pytest
from safetensors.torch import load_file

from distilset import DistilledSet
from distilset.store import read_settings
from tests.ranks import CASES, COUPLED, run_case, together
from tests.small import content, metrics, tree

NAMES = list(CASES)
BOUND = [f"coupled {name}" for name in COUPLED]


@pytest.fixture(scope="module")
def alone(tmp_path_factory):
    """Distil every case in this process."""
    folder = tmp_path_factory.mktemp("alone")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("DISTILSET_CACHE", str(folder / "cache"))
        for name in NAMES:
            run_case(name, folder / name)
    return folder


def losses(run):
    return [(line["step"], line["loss"]) for line in metrics(run)]


def state(run):
    return load_file(run / "checkpoint.safetensors")


def banks(cache):
    kept = {name: data for name, data in tree(cache).items() if "lock" not in name}
    return {name: data for name, data in kept.items() if name.startswith("banks")}


@pytest.mark.parametrize("number", [2, 3])
def test_the_result_is_that_of_one_process_bit_for_bit(alone, tmp_path, number):
    cache = tmp_path / "cache"
    together(number, "-m", "tests.ranks", tmp_path, *NAMES, cwd=tmp_path, DISTILSET_CACHE=cache)
    for name in NAMES:
        one, more = alone / name, tmp_path / name
        assert content(one) == content(more), name
        assert losses(one) == losses(more), name
        assert set(tree(one)) == set(tree(more)), name
        assert (one / "run.toml").read_text() == (more / "run.toml").read_text(), name
        for key, tensor in state(one).items():
            assert tensor.equal(state(more)[key]), (name, key)
    made = banks(cache)
    assert made
    assert made.items() <= banks(alone / "cache").items()


def test_statistics_of_batchnorm_are_those_of_the_whole_batch(tmp_path):
    """After one step the momentum is the gradient."""
    steps = {"DISTILSET_CACHE": tmp_path / "cache", "STEPS": "1"}
    together(2, "-m", "tests.ranks", tmp_path, *BOUND, cwd=tmp_path, **steps)
    for name in BOUND:
        with pytest.MonkeyPatch.context() as patch:
            patch.setenv("STEPS", "1")
            patch.setenv("DISTILSET_CACHE", str(tmp_path / "other"))
            run_case(name, tmp_path / "one" / name)
        one, more = tmp_path / "one" / name, tmp_path / name
        ((_, first),), ((_, second),) = losses(one), losses(more)
        assert abs(first - second) <= 1e-5 * abs(first)
        wanted, found = state(one)["momentum"], state(more)["momentum"]
        assert (wanted - found).norm() <= 1e-5 * wanted.norm()


def test_what_went_wrong_in_one_process_was_undone_in_all(alone):
    """That the result is equal is tested above."""
    for name in ("going back", "adam"):
        notes = DistilledSet.load(alone / name).card.notes
        assert any("after step 4 a loss or an image became infinite" in note for note in notes)
    assert {"momentum", "square"} < set(state(alone / "adam"))


def test_memory_that_runs_out_in_one_process_halves_the_chunk_of_all(tmp_path):
    cache = tmp_path / "cache"
    together(2, "-m", "tests.ranks", tmp_path, "short", cwd=tmp_path, DISTILSET_CACHE=cache)
    run = tmp_path / "short"
    assert read_settings(run)["engine"]["chunk"] == 3
    assert read_settings(run)["made"]["first_chunk"] == 6
    card = DistilledSet.load(run).card
    assert card.steps == 12
    assert any("6 images in one pass (in another process)" in note for note in card.notes)
    assert [step for step, _ in losses(run)] == list(range(1, 13))
    assert all(loss > 0 for _, loss in losses(run))
