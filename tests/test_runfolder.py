"""What may be resumed, lengthened or replaced, and what is refused."""

import shutil
import sys
import tomllib

import pytest
import tomli_w
import torch

import distilset
from distilset import ConfigError, DataError, DistilledSet
from distilset.runfolder import RunFolder
from tests.small import IMAGES, PULL, content, distil, metrics, same_images, splits, start, tree


@pytest.fixture(scope="module")
def straight(tmp_path_factory):
    run = tmp_path_factory.mktemp("straight") / "run"
    start(run, steps=6)
    return run


# What may be resumed


def test_resume_starts_where_there_is_nothing_to_resume(straight, tmp_path):
    (tmp_path / "empty").mkdir()
    half = tmp_path / "half"
    half.mkdir()
    (half / IMAGES).write_bytes(b"half")
    (half / ".distilled.json.99.partial").write_bytes(b"{")
    barely = tmp_path / "barely"
    barely.mkdir()
    start(tmp_path / "old", stop_at=1)
    shutil.copy(tmp_path / "old" / "run.toml", barely / "run.toml")
    for name in ("missing", "empty", "half", "barely"):
        start(tmp_path / name, resume=True)
        assert content(tmp_path / name) == content(straight)


def test_resume_does_not_touch_what_is_no_run(tmp_path):
    (tmp_path / "mine.txt").write_text("mine")
    with pytest.raises(DataError, match="no run to go on with"):
        start(tmp_path, resume=True)
    (tmp_path / "mine.txt").unlink()
    shutil.copytree(tmp_path, tmp_path / "run")
    start(tmp_path / "run", stop_at=2)
    (tmp_path / "run" / "run.toml").unlink()
    before = tree(tmp_path)
    with pytest.raises(DataError, match="no run to go on with"):
        start(tmp_path / "run", resume=True)
    assert tree(tmp_path) == before


def test_other_settings_are_refused_with_the_list(tmp_path):
    run = tmp_path / "run"
    distil(out=run, steps=2)
    with pytest.raises(ConfigError) as caught:
        distil(out=run, resume=True, steps=2, ipc=2, method="dm", norm="batch")
    for part in ("distill.ipc: 1 -> 2", "method.name", "network.norm: 'instance' -> 'batch'"):
        assert part in str(caught.value)


def test_settings_that_were_left_open_may_be_left_open_again(tmp_path):
    run = tmp_path / "run"
    auto = {"engine": {"device": "auto", "compile": "auto", "precision": "auto", "threads": 1}}
    distil(out=run, steps=2, settings=auto)
    assert distil(out=run, resume=True, steps=4, settings=auto).card.steps == 4
    with pytest.raises(ConfigError, match=r"engine\.precision: 'fp32' -> 'bf16'"):
        distil(out=run, resume=True, steps=6, precision="bf16")


def test_other_data_are_refused(tmp_path):
    run = tmp_path / "run"
    distil(out=run, steps=2)
    with pytest.raises(DataError, match="made from other data"):
        distil(splits(counts=(5, 6, 6)).train, out=run, resume=True, steps=4)
    assert DistilledSet.load(run).card.steps == 2


def test_other_versions_are_noted(tmp_path):
    run = tmp_path / "run"
    distil(out=run, steps=2)
    toml = (run / "run.toml").read_text()
    (run / "run.toml").write_text(toml.replace(torch.__version__, "1.0"))
    made = distil(out=run, steps=3, resume=True)
    assert any(f"torch 1.0 -> {torch.__version__}" in note for note in made.card.notes)


def test_a_selection_cannot_be_resumed(tmp_path):
    distilset.select(splits().train, "kcenter", 1).save(tmp_path / "run")
    with pytest.raises(DataError, match="holds a selection"):
        distil(out=tmp_path / "run", resume=True)


def test_code_that_only_a_file_names_is_not_imported(tmp_path, monkeypatch):
    run = tmp_path / "run"
    distil(out=run, method=PULL, steps=2)
    toml = (run / "run.toml").read_text()
    assert distil(out=run, resume=True, method=PULL, steps=3).card.steps == 3
    (run / "run.toml").write_text(toml.replace(PULL, "evil:Method"))
    (tmp_path / "evil.py").write_text("raise SystemExit('imported')")
    monkeypatch.syspath_prepend(str(tmp_path))
    with pytest.raises(ConfigError, match="resume it with --method evil:Method"):
        distil(out=run, resume=True, steps=4)
    assert "evil" not in sys.modules


# Finished runs and longer ones


def test_a_finished_run_is_returned_as_it_is(straight, tmp_path):
    run = shutil.copytree(straight, tmp_path / "run")
    before = tree(run)
    assert RunFolder(run, resume=True, earlier={}).finished(6) is not None
    made = distil(out=run, resume=True, steps=6)
    assert same_images(made, DistilledSet.load(straight))
    assert tree(run) == before


def test_a_longer_run_equals_a_straight_one(straight, tmp_path):
    run = tmp_path / "run"
    start(run, steps=2)
    assert start(run, steps=6, resume=True) == [3, 4, 5, 6]
    assert content(run) == content(straight)
    assert DistilledSet.load(run).settings["distill"]["steps"] == 6
    assert [line["step"] for line in metrics(run)] == [1, 2, 3, 4, 5, 6]


@pytest.mark.parametrize("stop_at", [None, 2])
def test_a_run_whose_rate_falls_over_its_steps_keeps_them(tmp_path, stop_at):
    run = tmp_path / "run"
    falling = {"distill": {"schedule": "cosine"}}
    start(run, steps=4, stop_at=stop_at, settings=falling)
    before = tree(run)
    for steps in (3, 5):
        with pytest.raises(
            ConfigError, match=rf"falls to 0 over its 4 steps .*got --steps {steps}"
        ):
            start(run, steps=steps, resume=True)
    assert tree(run) == before
    if stop_at:
        assert start(run, steps=4, resume=True) == [3, 4]


def test_a_run_that_does_not_tell_its_optimiser_used_sgd(straight, tmp_path):
    run = tmp_path / "run"
    start(run, stop_at=3)
    path = run / "run.toml"
    lines = path.read_text().splitlines(keepends=True)
    told = ("optimizer", 'schedule = "constant"')  # that of experts is a cosine
    old = [line for line in lines if not line.startswith(told)]
    assert len(old) == len(lines) - 2
    path.write_text("".join(old))
    with pytest.raises(ConfigError, match=r"distill\.optimizer: 'sgd' -> 'adam'"):
        start(run, settings={"distill": {"optimizer": "adam"}}, resume=True)
    plain = {"distill": {"optimizer": "sgd", "schedule": "constant"}}
    assert start(run, settings=plain, resume=True) == [4, 5, 6]
    assert content(run) == content(straight)


def test_a_run_that_knows_no_experts_had_none(straight, tmp_path):
    run = tmp_path / "run"
    start(run, stop_at=3)
    settings = tomllib.loads((run / "run.toml").read_text())
    del settings["experts"]
    for name in ("class_weight", "characteristic_weight", "frequencies", "bandwidth"):
        del settings["method"][name]
    (run / "run.toml").write_text(tomli_w.dumps(settings))
    with pytest.raises(ConfigError, match=r"experts\.number: 0 -> 2"):
        start(run, settings={"experts": {"number": 2}}, resume=True)
    plain = {
        "experts": {"number": 0, "updates": 400},
        "method": {"class_weight": 0.0, "characteristic_weight": 0.0},
    }
    assert start(run, settings=plain, resume=True) == [4, 5, 6]
    assert content(run) == content(straight)


def test_moments_of_another_optimiser_are_refused(tmp_path):
    run = tmp_path / "run"
    start(run, stop_at=3)
    path = run / "run.toml"
    path.write_text(path.read_text().replace('optimizer = "sgd"', 'optimizer = "adam"'))
    with pytest.raises(DataError, match="has the moments momentum; the settings say adam, which"):
        start(run, resume=True)


def test_a_run_stopped_while_it_is_lengthened_stays_readable(straight, tmp_path):
    run = tmp_path / "run"
    start(run, steps=2)
    short = content(run)
    start(run, steps=6, stop_at=5, resume=True)
    assert content(run) == short
    assert DistilledSet.load(run).card.steps == 2
    with pytest.raises(ConfigError, match="done 5 steps already"):
        start(run, steps=4, resume=True)
    assert content(run) == short
    assert start(run, steps=6, resume=True) == [6]
    assert content(run) == content(straight)


def test_a_run_cannot_be_shortened(straight, tmp_path):
    run = shutil.copytree(straight, tmp_path / "run")
    with pytest.raises(ConfigError, match=r"6 steps already.*got --steps 5"):
        distil(out=run, resume=True, steps=5)
    start(tmp_path / "half", stop_at=4)
    with pytest.raises(ConfigError, match=r"done 4 steps already.*got --steps 3"):
        start(tmp_path / "half", steps=3, resume=True)


def test_lost_results_of_a_finished_run_are_made_again(straight, tmp_path):
    run = shutil.copytree(straight, tmp_path / "run")
    (run / IMAGES).unlink()
    assert start(run, resume=True) == []
    assert content(run) == content(straight)


def test_a_run_of_no_steps_can_be_lengthened(straight, tmp_path):
    run = tmp_path / "run"
    start(run, steps=0)
    assert DistilledSet.load(run).card.steps == 0
    start(run, steps=6, resume=True)
    assert content(run) == content(straight)


def test_nothing_is_written_before_a_run_is_known_to_work(tmp_path):
    run = tmp_path / "run"
    for bad in ({"ipc": 7}, {"init": "nothing"}, {"norm": "bach"}, {"device": "cuda:9"}):
        with pytest.raises(ConfigError):
            distil(out=run, **bad)
    with pytest.raises(ConfigError, match="test split"):
        distil(splits().test, out=run)
    assert not run.exists()


def test_overwriting_keeps_the_old_run_until_the_new_one_is_known_to_work(straight, tmp_path):
    run = shutil.copytree(straight, tmp_path / "run")
    before = tree(run)
    with pytest.raises(DataError, match="--overwrite"):
        distil(out=run)
    with pytest.raises(ConfigError):
        distil(out=run, ipc=7, overwrite=True)
    assert tree(run) == before
    (run / "mine.txt").write_text("mine")
    distil(out=run, steps=1, overwrite=True)
    assert DistilledSet.load(run).card.steps == 1
    assert len(metrics(run)) == 1
    assert (run / "mine.txt").read_text() == "mine"


def test_images_that_left_the_numbers_are_refused(tmp_path):
    with pytest.raises(ConfigError, match=r"smaller distill\.image_lr"):
        distil(out=tmp_path / "run", method=PULL, image_lr=1e30, steps=4)
    assert metrics(tmp_path / "run") == []
