import json
from dataclasses import replace

import pytest

import distilset
from distilset.apps import nas
from distilset.apps.folder import read_rows
from distilset.apps.processes import in_processes
from distilset.apps.trainings import EARLY, WHOLE, passes
from distilset.errors import ConfigError, DataError
from distilset.testing import drawn_images
from distilset.training.protocols import PROTOCOLS, Protocol
from distilset.types import Splits
from tests.small import SHAPE

SPACE = ["convnet:width=4,depth=1", "convnet:width=8,depth=1", "convnet:width=8,depth=2"]
INFO = {"val_fraction": 0.25, "fingerprint": "drawn"}
QUICK = {
    "space": SPACE, "epochs": 2, "reference_updates": 2, "threads": 1, "device": "cpu",
    "precision": "fp32",
}  # fmt: skip


@pytest.fixture(scope="module")
def data():
    parts = [
        drawn_images(SHAPE, (6, 6, 6), role=role, seed=seed).with_info(**INFO)
        for seed, role in enumerate(("train", "test", "val"))
    ]
    return Splits(*parts)


@pytest.fixture(scope="module")
def chosen(data):
    return distilset.select(data.train, "herding", 2)


def look(folder, chosen, data, **options):
    return distilset.search([chosen], data, folder, **{**QUICK, **options})


def accuracies(folder):
    return {row["key"]: (row["accuracy"], row["test"]) for row in read_rows(folder)}


@pytest.fixture(scope="module")
def made(data, chosen, tmp_path_factory):
    """One search, with all kinds of proxies."""
    folder = tmp_path_factory.mktemp("search") / "a"
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("DISTILSET_CACHE", str(tmp_path_factory.mktemp("cache")))
        found = look(folder, chosen, data, baselines=["random", "early"], trials=2)
    return folder, found


def test_every_network_is_trained_on_every_proxy(made):
    folder, found = made
    rows = read_rows(folder)
    names = ["herding-2 (set 1)", "baseline random-2", EARLY, WHOLE]
    assert [one.proxy.name for one in found] == names
    counts = [sum(row["proxy"] == name for row in rows) for name in names]
    assert counts == [6, 6, 6, 3]
    assert {row["split"] for row in rows} == {"val"}
    assert all((row["test"] != "") == (row["proxy"] == WHOLE) for row in rows)
    assert [one.trials for one in found] == [2, 2, 2, 1]
    assert {"width", "depth", "norm"} <= set(rows[0])


def test_findings_are_those_of_the_rows(made):
    """By hand: scipy on the rows on file, and the accuracies of the pick."""
    from scipy.stats import spearmanr

    folder, found = made
    rows = read_rows(folder)
    whole = {row["member"]: row for row in rows if row["proxy"] == WHOLE}
    one = found[0]
    means = {
        name: sum(float(r["accuracy"]) for r in rows
                  if r["proxy"] == one.proxy.name and r["member"] == name) / 2
        for name in whole
    }  # fmt: skip
    x, y = [means[n] for n in whole], [float(row["accuracy"]) for row in whole.values()]
    if one.space.spearman is not None:
        assert one.space.spearman == pytest.approx(spearmanr(x, y).statistic)
    assert means[one.picked] == max(means.values())
    assert one.tied == sum(value == max(means.values()) for value in means.values())
    assert one.picked_whole == float(whole[one.picked]["accuracy"])
    assert one.picked_test == float(whole[one.picked]["test"])
    assert found[-1].picked_whole == max(y)
    assert one.passes == 2 * 3 * passes(replace(PROTOCOLS["quick"], epochs=2, updates=None), 6)


def test_the_folder_has_table_plots_and_reference(made):
    folder, _ = made
    names = {path.name for path in folder.iterdir()}
    plots = {f"plot_{what}.{kind}" for what in ("accuracies", "correlations")
             for kind in ("png", "svg")}  # fmt: skip
    others = {"app.toml", "rows.csv", "table.md", "summary.json", "reference.json"}
    assert plots | others | {"findings.json", "left_out.csv"} == names
    assert (folder / "plot_accuracies.png").read_bytes()[:4] == b"\x89PNG"
    assert "<svg" in (folder / "plot_accuracies.svg").read_text()
    assert "herding-2 (set 1)" in (folder / "table.md").read_text()
    assert len(json.loads((folder / "findings.json").read_text())["findings"]) == 4


def test_the_report_has_a_section(made, tmp_path):
    text = distilset.report([made[0]], tmp_path / "report.html").read_text()
    assert "Rank correlation of proxy with whole-data accuracy" in text
    assert "data:image/svg+xml" in text


def test_a_search_goes_on_where_it_stopped(made, data, chosen, tmp_path, monkeypatch):
    folder, _ = made

    class StopError(Exception):
        pass

    told = []

    def stop(done, total, note):
        told.append((done, total))
        if len(told) == 5:
            raise StopError

    options = {"baselines": ["random", "early"], "trials": 2}
    with pytest.raises(StopError):
        look(tmp_path / "b", chosen, data, progress=stop, **options)
    assert len(read_rows(tmp_path / "b")) == 4
    with pytest.raises(DataError, match="--resume"):
        look(tmp_path / "b", chosen, data, **options)
    look(tmp_path / "b", chosen, data, resume=True, **options)
    assert accuracies(tmp_path / "b") == accuracies(folder)
    tasks = []
    monkeypatch.setattr(nas, "in_processes", lambda work, left, n: seen(tasks, work, left, n))
    look(tmp_path / "b", chosen, data, resume=True, **options)
    assert tasks == []


def seen(tasks, work, left, number):
    tasks.extend(left)
    return in_processes(work, left, number)


def test_other_settings_are_not_gone_on_with(made, data, chosen):
    with pytest.raises(ConfigError, match="other settings"):
        look(made[0], chosen, data, baselines=["random", "early"], trials=3, resume=True)


def test_two_processes_give_what_one_gives(made, data, chosen, tmp_path):
    options = {"baselines": ["random", "early"], "trials": 2, "workers": 2}
    look(tmp_path / "b", chosen, data, **options)
    assert accuracies(tmp_path / "b") == accuracies(made[0])


def test_whole_data_accuracies_are_found_again(data, chosen, tmp_path):
    look(tmp_path / "a", chosen, data)
    look(tmp_path / "b", chosen, data, protocol="dm", seed=0)
    sources = {row["source"] for row in read_rows(tmp_path / "b") if row["proxy"] == WHOLE}
    assert sources == {"cache"}
    look(tmp_path / "c", chosen, data, reference_updates=3)
    sources = {row["source"] for row in read_rows(tmp_path / "c") if row["proxy"] == WHOLE}
    assert sources == {"trained"}


def test_a_reference_file_is_used_again_and_missing_members_are_trained(
    made, data, chosen, tmp_path
):
    file = made[0] / "reference.json"
    space = [*SPACE, "convnet:width=12,depth=1"]
    look(tmp_path / "b", chosen, data, reference=file, space=space, seed=5)
    rows = [row for row in read_rows(tmp_path / "b") if row["proxy"] == WHOLE]
    assert sorted(row["source"] for row in rows) == ["reference.json"] * 3 + ["trained"]
    old = {row["member"]: row["accuracy"] for row in read_rows(made[0]) if row["proxy"] == WHOLE}
    assert {row["member"]: row["accuracy"] for row in rows} == old | {
        row["member"]: row["accuracy"] for row in rows if row["source"] == "trained"
    }


def test_a_reference_of_other_data_split_or_schedule_is_refused(made, data, chosen, tmp_path):
    file = made[0] / "reference.json"
    with pytest.raises(ConfigError, match="updates: 2 there, 3 here"):
        look(tmp_path / "b", chosen, data, reference=file, reference_updates=3)
    with pytest.raises(ConfigError, match="split: 'val' there, 'test' here"):
        look(tmp_path / "b", chosen, data, reference=file, split="test")
    other = Splits(*(part.with_info(fingerprint="x") for part in (data.train, data.test, data.val)))
    with pytest.raises(ConfigError, match="'drawn' there, 'x' here"):
        look(tmp_path / "b", chosen, other, reference=file)
    wrong = file.read_text().replace('"accuracy": ', '"accuracy": 9')
    (tmp_path / "wrong.json").write_text(wrong)
    with pytest.raises(DataError, match="no number from 0 to 100"):
        look(tmp_path / "b", chosen, data, reference=tmp_path / "wrong.json")
    (tmp_path / "bad.json").write_text("{}")
    with pytest.raises(DataError, match="no reference file"):
        look(tmp_path / "b", chosen, data, reference=tmp_path / "bad.json")
    assert not (tmp_path / "b").exists()


def test_hyper_parameters_are_searched_by_the_same_machinery(data, chosen, tmp_path):
    file = tmp_path / "rates.toml"
    file.write_text("[factors]\nlr = [0.001, 0.3]\naugmentation = ['none', 'crop+flip']\n")
    found = look(tmp_path / "a", chosen, data, space=str(file), network=SPACE[0])
    rows = read_rows(tmp_path / "a")
    assert {(row["lr"], row["augmentation"]) for row in rows} == {
        (lr, a) for lr in ("0.001", "0.3") for a in ("none", "crop+flip")
    }
    assert found[0].space.n == 4
    assert len({row["accuracy"] for row in rows if row["proxy"] == WHOLE}) > 1


def test_nothing_is_trained_where_something_is_wrong(data, chosen, tmp_path, monkeypatch):
    monkeypatch.setattr(nas, "in_processes", None)
    bare = Splits(data.train, data.test)
    other = Splits(
        *(part.with_info(val_fraction=0.5) for part in (data.train, data.test, data.val))
    )
    cases = [
        ("unknown space", {"space": "convnet72"}),
        ("two networks or more", {"space": SPACE[:1]}),
        ("--sample must be from 2 to 3", {"sample": 4}),
        ("unknown baseline 'whole'", {"baselines": ["whole"]}),
        ("unknown protocol", {"protocol": "fast"}),
        ("reference_updates must be 1 or more", {"reference_updates": 0}),
        ("trials and epochs must be 1 or more", {"trials": 0}),
        ("--split must be test or val", {"split": "train"}),
    ]
    for words, options in cases:
        with pytest.raises(ConfigError, match=words):
            look(tmp_path / "a", chosen, data, **options)
    with pytest.raises(
        ConfigError, match="no val part; distil with --val F, or score --split test"
    ):
        look(tmp_path / "a", chosen, bare)
    with pytest.raises(ConfigError, match="may hold images of the validation part"):
        look(tmp_path / "a", chosen, other)
    with pytest.raises(ConfigError, match="at least one run"):
        distilset.search([], data, tmp_path / "a")
    assert not (tmp_path / "a").exists()


def test_the_test_split_reproduces_the_papers_correlations(data, chosen, tmp_path):
    found = look(tmp_path / "a", chosen, Splits(data.train, data.test), split="test")
    for row in read_rows(tmp_path / "a"):
        assert row["split"] == "test"
        assert row["proxy"] != WHOLE or row["test"] == row["accuracy"]
    assert found[0].picked_test == found[0].picked_whole


def test_trial_t_has_the_same_weights_on_every_proxy(data, chosen, tmp_path):
    """So a proxy's rows are those of a search that has it alone."""
    both = [chosen, distilset.select(data.train, "kcenter", 2)]
    distilset.search(both, data, tmp_path / "a", **QUICK)
    distilset.search(both[1:], data, tmp_path / "b", **QUICK)
    alone = {
        r["member"]: r["accuracy"] for r in read_rows(tmp_path / "b") if "kcenter" in r["proxy"]
    }
    beside = {
        r["member"]: r["accuracy"] for r in read_rows(tmp_path / "a") if "kcenter" in r["proxy"]
    }
    assert alone == beside


class Doubling:
    def do(self, task):
        if task == "fail":
            raise ConfigError("a sentence")
        yield from (task, 2 * task)


def test_work_is_done_here_or_in_processes_which_pass_on_what_fails():
    import tests.apps.test_nas as module  # not __main__: a worker imports it

    work = module.Doubling()
    assert list(in_processes(work, [1, 2], 1)) == [1, 2, 2, 4]
    with pytest.raises(ConfigError, match="a sentence"):
        list(in_processes(work, ["fail", "fail"], 2))


def test_passes_count_the_last_smaller_batch():
    protocol = Protocol("p", epochs=None, batch=4, lr=0.1, schedule="cosine", updates=5)
    assert [passes(protocol, n) for n in (10, 4, 3)] == [10 + 8, 20, 15]
