"""The program that works through grids of settings: cells, CSV, tables and plots; no distilling."""

import csv
import importlib
import itertools
import json
import math
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

import distilset

FOLDER = Path(distilset.__file__).parent.parent / "benchmarks"
COMMON = {
    **{"like": "cifar10", "val": 0.1, "split": "val", "protocol": "quick", "trials": 1, "seed": 0},
    **{"method": "atom", "network": "convnet", "norm": "instance", "zca": True, "power": 4},
    **{"init": "random", "ipc": 10, "steps": 1000, "bank": 200, "batch_real": 64, "image_lr": 1.0},
}
OLD = """\
data,method,ipc,norm,zca,power,init,network,seed,batch_real,steps,bank,image_lr,split,val,\
protocol,trials,distill_seconds,evaluate_seconds,accuracies,mean,std,commit,device,threads,precision
cifar10,dm,1,instance,false,,random,convnet,0,64,1000,200,1.0,val,0.1,dm,1,60,16,27.16,27.16,0.00,\
95020a9,cpu x86_64,2,bf16
"""


@pytest.fixture
def study(monkeypatch):
    monkeypatch.syspath_prepend(str(FOLDER))
    yield importlib.import_module("study")
    for name in ("study", "study_cells", "study_views"):
        sys.modules.pop(name, None)


def cells(study, **stage):
    grid = {"common": COMMON, "stage": [{"name": "one", **stage}]}
    return list(study.cells(grid, [], "cifar10"))


def row(cell, seconds=10, mean=30.0):
    measured = {"distill_seconds": str(seconds), "mean": str(mean), "accuracies": str(mean)}
    rest = ("evaluate_seconds", "std", "commit", "device", "threads", "precision")
    return {**cell, **measured, **dict.fromkeys(rest, "0")}


def test_cells_without_the_new_settings_have_the_usual_ones(study):
    (cell,) = cells(study)
    assert tuple(cell) == study.SETTINGS
    assert (cell["factor"], cell["set"], cell["zca"]) == ("1", "", "true")


def test_free_settings_are_an_axis_and_their_order_does_not_count(study):
    texts = ["", "b.x=2  a.y=1", "a.y=1 b.x=2", "a.y=1"]
    assert [cell["set"] for cell in cells(study, set=texts)] == ["", "a.y=1 b.x=2", "a.y=1"]
    assert cells(study, set="b.x=2 a.y=1") == cells(study, set=["a.y=1 b.x=2"])


def test_free_settings_and_the_factor_reach_the_command(study):
    (cell,) = cells(study, factor=2, set="method.mmd_weight=1 distill.momentum=0.9")
    words = study.distilling(cell, "CIFAR10", "cifar10", Path("out"))
    settings = [value for name, value in itertools.pairwise(words) if name == "--set"]
    assert settings == [
        "distill.image_lr=1.0",
        "method.spatial_power=4",
        "method.channel_power=4",
        "distill.momentum=0.9",
        "method.mmd_weight=1",
    ]
    assert words[words.index("--factor") + 1] == "2"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("distill.ipc=1", "set may not name distill.ipc: that is 'ipc', with a name of its own"),
        ("a.b=1 distill.image_lr=2", "distill.image_lr: that is 'image_lr'"),
        ("distill.factor=2", "distill.factor"),
        ("network.norm=batch", "network.norm"),
        ("data.zca=true", "data.zca"),
        ("method.channel_power=2", "method.channel_power: that is 'power'"),
        ("engine.threads=1", "engine.threads"),
        ("a.b=1 a.b=2", "set names a.b twice"),
        ("a.b = 1", "set takes section.key=value with blanks between, none inside; got 'a.b'"),
        ("ab=1", "got 'ab=1'"),
        ("a.b=", "got 'a.b='"),
        (1, "set takes texts of section.key=value; got 1"),
    ],
)
def test_settings_that_may_not_be_free_are_refused(study, text, message):
    with pytest.raises(SystemExit, match=message):
        cells(study, set=text)


def test_a_cell_with_a_wrong_name_is_refused(study):
    with pytest.raises(SystemExit, match="wrong: \\['ips'\\]"):
        cells(study, ips=1)


def test_a_power_is_refused_only_where_the_method_has_one(study):
    (cell,) = cells(study, method="package.module:Own", set="method.power=2")
    assert (cell["power"], cell["set"]) == ("", "method.power=2")


def test_the_grids_are_cells(study):
    for path in sorted((FOLDER / "grids").glob("*.toml")):
        assert list(study.cells(tomllib.loads(path.read_text()), [], "cifar10"))
    recipe = tomllib.loads((FOLDER / "grids" / "recipe.toml").read_text())
    found = list(study.cells(recipe, ["final"], "cifar10"))
    assert {one["split"] for one in found} == {"test"}
    assert len({(one["factor"], one["seed"]) for one in found}) == len(found) == 6
    names = [stage["name"] for stage in recipe["stage"]]
    for name in names:
        splits = {one["split"] for one in study.cells(recipe, [name], "cifar10")}
        assert splits == {"test" if name.startswith("final") else "val"}


def test_folders_are_named_by_what_shapes_a_set_and_not_by_how_it_is_scored(study):
    (cell,) = cells(study, method="dm", init="runs/other")
    name = "cifar10-dm-10-instance-true-none-runs_other-convnet-0-64-1000-200-1.0-0.1"
    assert study.folder(cell) == name
    (other,) = cells(study, method="dm", init="runs/other", factor=2, set="b.x=2 a.y=1/2")
    assert study.folder(other) == f"{name}-factor=2-set=a.y=1_2,b.x=2"
    scored = cells(study, method="dm", init="runs/other", judge=["convnet", "vgg11"], protocol="dm")
    assert {study.folder(one) for one in scored} == {name}


def test_long_folder_names_are_cut_and_stay_apart(study):
    long = " ".join(f"section.key{i}={i}" for i in range(40))
    found = cells(study, set=[f"{long} section.z=1", f"{long} section.z=2"])
    names = [study.folder(cell) for cell in found]
    assert names[0] != names[1]
    assert [len(name) for name in names] == [200, 200]
    assert names[0].startswith("cifar10-atom-10-instance-")


def test_the_committed_csv_has_todays_columns(study):
    module = importlib.import_module("study_cells")
    with study.RESULTS.open(newline="") as file:
        assert tuple(next(csv.reader(file))) == module.COLUMNS
    for line in study.rows_of(study.RESULTS):
        assert line["set"] == module.free(line["set"])
        assert int(line["factor"]) >= 1


def test_older_lines_are_read_and_written_with_the_usual_values(study, tmp_path):
    path = tmp_path / "study.csv"
    path.write_text(OLD)
    (old,) = study.rows_of(path)
    assert (old["factor"], old["set"], old["mean"]) == ("1", "", "27.16")
    usual = {"method": "dm", "ipc": 1, "zca": False, "protocol": "dm"}
    (cell,) = cells(study, **usual)
    assert cell.items() <= old.items()  # the cell is known
    (new,) = map(row, cells(study, **usual, factor=2, set="a.b=1 a.c=2"))
    study.append(path, new)
    study.append(path, new)
    assert study.rows_of(path) == [old, new, new]
    assert [file.name for file in tmp_path.iterdir()] == ["study.csv"]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (("accuracies", "acuracies"), "wrong: \\['accuracies', 'acuracies'\\]"),
        (("cpu x86_64,2,bf16", "cpu x86"), "line 2 has not as many values as names"),
        (("bf16\n", "bf16,more\n"), "line 2 has not as many values as names"),
    ],
)
def test_a_csv_that_is_not_whole_is_refused(study, tmp_path, change, message):
    path = tmp_path / "study.csv"
    path.write_text(OLD.replace(*change))
    with pytest.raises(SystemExit, match=message):
        study.rows_of(path)


GRID = """\
[common]
like = "cifar10"
val = 0.1
split = "val"
protocol = "quick"
trials = 1
seed = 0
method = "atom"
network = "convnet"
norm = "instance"
zca = true
power = 4
init = "random"
ipc = [1, 10]
steps = 1000
bank = 200
batch_real = 64
image_lr = 1.0
[[stage]]
name = "one"
set = ["", "b.x=1 a.y=2"]
"""


@pytest.fixture
def call(study, tmp_path):
    """Return a function that runs the program on a small grid and a CSV of its own."""
    (tmp_path / "grid.toml").write_text(GRID)

    def call(*words):
        grid = ["--grid", str(tmp_path / "grid.toml"), "--out", str(tmp_path / "runs")]
        words = (*words, *grid) if words[0] == "run" else words
        return study.main(["--csv", str(tmp_path / "study.csv"), *words])

    return call


def commands(fails, code=3):
    """Stand in for the command line: distilling fails where ``fails`` says so of its words."""

    def distilset(*words):
        if words[0] == "evaluate":
            return json.dumps({"rows": [{"accuracies": [31.5, 32.5], "seconds": 5.0}]}), 6.0
        if fails(words):
            raise subprocess.CalledProcessError(code, words)
        out = Path(words[words.index("--out") + 1])
        out.mkdir(parents=True)
        (out / "distilled.json").write_text('{"device": "cpu", "precision": "fp32"}')
        return "", 12.4

    return distilset


def test_missing_cells_are_listed_and_nothing_is_run(study, call, capsys, monkeypatch, tmp_path):
    monkeypatch.setattr(study, "distilset", commands(lambda words: pytest.fail("it ran")))
    assert call("run", "CIFAR10", "--list") == 0
    out, err = capsys.readouterr()
    assert out.splitlines()[0] == "method=atom  ipc=1  seed=0  set=none"
    assert out.splitlines()[3] == "method=atom  ipc=10  seed=0  set=a.y=2 b.x=1"
    assert err == "4 cells, 4 to do\n"
    assert not (tmp_path / "study.csv").exists()


def test_a_cell_that_fails_is_told_of_and_left_out(study, call, capsys, monkeypatch, tmp_path):
    monkeypatch.setattr(study, "distilset", commands(lambda w: "a.y=2" in w and "10" in w))
    assert call("run", "CIFAR10") == 1
    err = capsys.readouterr().err
    assert "failed (3): method=atom  ipc=10  seed=0  set=a.y=2 b.x=1\n" in err
    assert err.endswith("1 cells failed and are not in the CSV\n")
    rows = study.rows_of(tmp_path / "study.csv")
    found = [(line["ipc"], line["set"], line["distill_seconds"], line["mean"]) for line in rows]
    assert found == [(ipc, text, "12", "32.00") for text in ("", "a.y=2 b.x=1") for ipc in "1"] + [
        ("10", "", "12", "32.00")
    ]
    monkeypatch.setattr(study, "distilset", commands(lambda words: False))
    assert call("run", "CIFAR10") == 0
    assert capsys.readouterr().err.startswith("4 cells, 1 to do")
    assert len(study.rows_of(tmp_path / "study.csv")) == 4


def test_a_set_that_several_networks_score_is_distilled_once(study, call, monkeypatch, tmp_path):
    grid = tmp_path / "grid.toml"
    grid.write_text(GRID.replace('set = ["", "b.x=1 a.y=2"]', 'judge = ["", "vgg11"]'))
    ran, answer = [], commands(lambda words: False)
    monkeypatch.setattr(study, "distilset", lambda *words: ran.append(words) or answer(*words))
    assert call("run", "CIFAR10") == 0
    assert [words[0] for words in ran].count("distill") == 2
    judges = [words[-2] for words in ran if words[0] == "evaluate" and "--network" in words]
    assert judges == ["vgg11", "vgg11"]
    rows = study.rows_of(tmp_path / "study.csv")
    assert {line["distill_seconds"] for line in rows} == {"12"}
    assert [line["judge"] for line in rows] == ["", "vgg11"] * 2


def test_a_run_that_somebody_stops_ends(study, call, monkeypatch):
    began = []
    monkeypatch.setattr(study, "distilset", commands(lambda words: not began.append(words), 130))
    with pytest.raises(SystemExit) as end:
        call("run", "CIFAR10")
    assert (end.value.code, len(began)) == (130, 1)


@pytest.fixture
def rows(study, tmp_path):
    """Write two settings at two numbers of steps, with two seeds each."""
    found = []
    for text, better in (("", 0.0), ("a.b=1", 5.0)):
        for steps in (1000, 100):
            for seed in (0, 1):
                (cell,) = cells(study, set=text, steps=steps, seed=seed)
                mean = 20 + better + math.log10(steps) + seed
                found.append(row(cell, steps // 10 + 2 * seed, mean))
    for line in found:
        study.append(tmp_path / "study.csv", line)
    return found


def test_a_line_is_a_setting_at_all_its_steps(study, rows):
    groups = study.study_views.grouped(rows, [])
    assert len(groups) == 4
    lines = study.study_views.lines_of(groups, "distill_seconds")
    assert [dict(key)["set"] for key in lines] == ["", "a.b=1"]
    assert next(iter(lines.values())) == [(11.0, [22.0, 23.0]), (101.0, [23.0, 24.0])]
    assert [
        [x for x, _ in line] for line in study.study_views.lines_of(groups, "steps").values()
    ] == [[100, 1000]] * 2


def test_the_table_has_seconds(call, rows, capsys):
    assert call("table", "--by", "set", "--seconds", "--where", "steps=100") == 0
    assert capsys.readouterr().out.splitlines() == [
        "| set | accuracy | seconds |",
        "| --- | --- | --- |",
        "|  | 22.5 ± 0.7 (n = 2) | 11 |",
        "| a.b=1 | 27.5 ± 0.7 (n = 2) | 11 |",
    ]
    assert call("table") == 0
    assert capsys.readouterr().out.splitlines()[0] == "| steps | set | accuracy |"


@pytest.mark.parametrize("across", [[], ["--x", "distill_seconds"], ["--x", "steps"]])
def test_a_plot_is_written(call, rows, across, tmp_path):
    assert call("plot", "--by", "set", *across, "--out", str(tmp_path / "plot.png")) == 0
    assert (tmp_path / "plot.png").read_bytes().startswith(b"\x89PNG")


def test_lines_have_bars_and_a_logarithmic_axis(study, rows):
    groups = study.study_views.grouped(rows, [])
    (axes,) = study.study_views._lines(groups, ["ipc"], "steps").axes
    assert (axes.get_xscale(), len(axes.containers)) == ("log", 2)
    names = axes.get_legend_handles_labels()[1]
    assert names == ["ipc 10, no set", "ipc 10, a.b=1"]
    low, high = axes.containers[0].lines[2][0].get_segments()[0][:, 1]
    assert high - low == pytest.approx(2 * math.sqrt(0.5))  # two seeds, one point apart


def test_no_steps_at_all_have_a_place_on_the_axis(study):
    (cell,) = cells(study, steps=0)
    groups = study.study_views.grouped([row(cell)], [])
    (axes,) = study.study_views._lines(groups, [], "steps").axes
    assert axes.get_xscale() == "symlog"


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--by", "seed"], "--by takes .*; got \\['seed'\\]"),
        (["--where", "ipd=1"], "unknown setting 'ipd'"),
        (["--where", "ipc=50"], "the CSV has no line where ipc=50"),
    ],
)
def test_questions_without_an_answer_are_refused(call, rows, words, message):
    with pytest.raises(SystemExit, match=message):
        call("table", *words)
