"""The command line, run in this process: words, exit codes, what goes to which stream."""

import csv
import io
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from rich.console import Console

import distilset
from distilset import DistilledSet
from distilset.cli import KINDS
from distilset.evaluation.score import Score
from distilset.terminal import Bar, plain_table, training_bars
from tests.small import ARGS, PULL, call, distil, metrics, refused, splits, tree, write_npz

FIELDS = (
    *("run", "method", "dataset", "ipc", "network", "norm", "protocol", "epochs", "trials"),
    *("labels", "augmentation", "split", "images", "seed", "device"),
    *("accuracy_mean", "accuracy_std", "accuracies", "seconds"),
)
FAST = ("--epochs", 1, "--trials", 2, "--network", "convnet:width=8,depth=2", "--device", "cpu")


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    return write_npz(tmp_path_factory.mktemp("data") / "drawn.npz")


@pytest.fixture(scope="module")
def made(data, tmp_path_factory):
    """Make a distilled run and a selection once; tests copy them."""
    folder = tmp_path_factory.mktemp("made")
    args = ["distill", data, "--out", str(folder / "run"), "--steps", "4", "--val", "0.25", *ARGS]
    select = ["select", data, "--out", str(folder / "chosen"), "--selector", "kcenter"]
    for words in (args, [*select, "--ipc", "1", "--val", "0.25"]):
        before, sys.argv = sys.argv, ["distilset", *words]
        try:
            with pytest.raises(SystemExit) as end:
                distilset.cli.main()
        finally:
            sys.argv = before
        assert end.value.code == 0
    return folder


@pytest.fixture
def run(made, tmp_path):
    return shutil.copytree(made / "run", tmp_path / "run")


def distill(data, out, *more):
    return ["distill", data, "--out", out, "--steps", 3, *ARGS, *more]


# Words that do nothing but tell


def test_help_version_and_module():
    root = Path(distilset.__file__).parent.parent
    done = subprocess.run(
        [sys.executable, "-X", "importtime", "-m", "distilset", "--help"],
        cwd=root, capture_output=True, text=True, check=True,
        env={**os.environ, "COLUMNS": "100"},
    )  # fmt: skip
    assert all(word in done.stdout for word in ("distill", "select", "evaluate", "list", "show"))
    imported = {line.rpartition("|")[2].strip() for line in done.stderr.splitlines()}
    assert "distilset.cli" in imported
    assert not imported & {"torch", "numpy", "pydantic", "rich.progress", "distilset.config"}


def test_version(capsys):
    assert call(capsys, "--version")[:2] == (0, f"distilset {distilset.__version__}\n")


@pytest.mark.parametrize("kind", KINDS)
def test_lists(capsys, kind):
    code, out, err = call(capsys, "list", kind)
    assert (code, err) == (0, "")
    expected = {
        "methods": ("atom", "datadam", "dm"), "selectors": ("random", "herding", "kcenter"),
        "networks": ("convnet",), "datasets": ("digits", "cifar10", "imagenette", "svhn"),
        "presets": ("atom-cifar", "datadam-cifar-code"), "protocols": ("dm", "datadam", "quick"),
    }  # fmt: skip
    assert all(name in out for name in expected[kind])


def test_an_unknown_list_is_refused(capsys):
    assert "methods, selectors" in refused(capsys, "list", "method")


def test_usage_errors_exit_with_2(capsys):
    for args in (["distill"], ["nothing"], ["distill", "digits", "--out", "x", "--ipc", "many"]):
        code, out, err = call(capsys, *args)
        assert code == 2
        assert out == ""
        assert "Traceback" not in err


def test_show_prints_names_as_they_are(capsys, tmp_path):
    train = splits().train
    names = ("[red]r[/blue]", ":smile:", "two  words")
    odd = type(train)(train.images, train.offsets, names, train.role, train.info)
    distil(odd, steps=1, out=tmp_path / "[b]")
    code, out, _ = call(capsys, "show", tmp_path / "[b]")
    assert code == 0
    assert all(text in out for text in (*names, "[b]", "grid.png", "atom, 1 steps", "3x8x8"))
    assert "there is no run" in refused(capsys, "show", tmp_path / "nothing")


# distill


def test_what_is_stated_counts_in_order_and_the_plan_comes_first(capsys, data, tmp_path):
    preset = tmp_path / "p.toml"
    preset.write_text("[distill]\nsteps = 5\nseed = 5\nmomentum = 0.25\n[method]\npower = 2.0\n")
    out = tmp_path / "run"
    more = ("--method", "datadam", "--preset", preset, "--set", "distill.seed=7", "--seed", 9)
    code, told, err = call(capsys, *distill(data, out, *more, "--set", "distill.ipc=2"))
    assert (code, told) == (0, f"{out}: 3 images of 3 classes\n")
    made = DistilledSet.load(out).settings
    assert made["distill"]["seed"] == 9
    assert made["distill"]["steps"] == 3
    assert made["distill"]["momentum"] == 0.25
    assert made["method"]["power"] == 2.0
    for word in ("data", "images", "network", "device", "precision", "memory", "time", "datadam"):
        assert word in err
    assert err.index("plan") < err.index("distilling: 3/3, loss")


def test_a_dry_run_writes_nothing(capsys, data, tmp_path):
    code, out, err = call(capsys, *distill(data, tmp_path / "run", "--dry-run"))
    assert (code, out) == (0, "")
    assert "about" in err
    assert not (tmp_path / "run").exists()


def test_a_dry_run_leaves_an_old_run_alone(capsys, data, run):
    before = tree(run)
    assert call(capsys, *distill(data, run, "--dry-run", "--overwrite"))[0] == 0
    assert tree(run) == before


def test_a_run_is_made_again_from_its_settings(capsys, data, run, tmp_path):
    again = tmp_path / "again"
    code, _, _ = call(capsys, "distill", data, "--out", again, "--preset", run / "run.toml")
    assert code == 0
    for name in ("distilled.safetensors", "run.toml"):
        assert (again / name).read_bytes() == (run / name).read_bytes()


def test_a_finished_run_says_so_and_more_steps_lengthen_it(capsys, data, run):
    same = ("distill", data, "--out", run, "--resume")
    before = tree(run)
    assert call(capsys, *same)[:2] == (0, f"{run} is finished already: 4 steps\n")
    assert tree(run) == before
    code, _, err = call(capsys, *same, "--steps", 6)
    assert code == 0
    assert "after step 4" in err
    assert [line["step"] for line in metrics(run)] == [1, 2, 3, 4, 5, 6]


def test_resume_refuses_other_settings_and_other_data(capsys, data, run, tmp_path):
    text = refused(capsys, "distill", data, "--out", run, "--resume", "--ipc", 2, "--seed", 1)
    assert "distill.ipc: 1 -> 2" in text
    assert "distill.seed: 0 -> 1" in text
    other = write_npz(tmp_path / "other.npz", seed=5)
    assert "data.source" in refused(capsys, "distill", other, "--out", run, "--resume")
    shutil.copy(other, tmp_path / "drawn.npz")
    toml = (run / "run.toml").read_text().replace(data, str(tmp_path / "drawn.npz"))
    (run / "run.toml").write_text(toml)
    again = ("distill", tmp_path / "drawn.npz", "--out", run, "--resume", "--steps", 9)
    assert "other data" in refused(capsys, *again)


def test_runs_hold_from_any_folder(capsys, data, tmp_path, monkeypatch):
    (tmp_path / "a").mkdir()
    shutil.copy(data, tmp_path / "a" / "d.npz")
    monkeypatch.chdir(tmp_path / "a")
    assert call(capsys, *distill("d.npz", "run"))[0] == 0
    assert call(capsys, *distill("./d.npz", "run", "--resume"))[0] == 0
    monkeypatch.chdir(tmp_path)
    assert call(capsys, "evaluate", "a/run", *FAST)[0] == 0


def test_an_earlier_run_is_refused_without_overwrite(capsys, data, run):
    before = tree(run)
    assert "--overwrite" in refused(capsys, *distill(data, run))
    assert "--overwrite" in refused(capsys, "select", data, "--out", run)
    assert tree(run) == before
    assert call(capsys, *distill(data, run, "--overwrite"))[0] == 0
    assert DistilledSet.load(run).card.steps == 3


def test_somebody_elses_method_by_name(capsys, data, tmp_path):
    again = distill(data, tmp_path / "run", "--method", PULL)
    assert call(capsys, *again)[0] == 0
    assert "finished already" in call(capsys, *again, "--resume")[1]
    text = refused(capsys, *distill(data, tmp_path / "run", "--resume"))
    assert f"--method {PULL}" in text


@pytest.mark.parametrize(
    ("more", "parts"),
    [
        (("--method", "datdam"), ("did you mean 'datadam'",)),
        (("--method", "no.module:X"), ("cannot be imported",)),
        (("--ipc", 0), ("distill.ipc", "got 0")),
        (("--ipc", 50), ("ipc 50", "class 'a'", "(6)")),
        (("--steps", -1), ("distill.steps",)),
        (("--norm", "bach"), ("network.norm", "'bach'")),
        (("--network", "resnet"), ("unknown network 'resnet'", "convnet")),
        (("--network", "convnet:widht=8"), ("did you mean 'width'",)),
        (("--init", "kcentre"), ("did you mean 'kcenter'",)),
        (("--precision", "fp8"), ("engine.precision",)),
        (("--compile", "never"), ("engine.compile",)),
        (("--device", "gpu"), ("device 'gpu' cannot be used",)),
        (("--device", "meta"), ("device 'meta' cannot be used",)),
        (("--device", "hpu"), ("device 'hpu' cannot be used",)),
        (("--threads", 0), ("engine.threads",)),
        (("--checkpoint-every", 0), ("engine.checkpoint_every",)),
        (("--seed", -1), ("distill.seed",)),
        (("--val", 1), ("data.val",)),
        (("--split-seed", -1), ("data.split_seed",)),
        (("--resolution", 1), ("data.resolution",)),
        (("--like", "cifar"), ("'cifar'",)),
        (("--preset", "atom"), ("unknown preset 'atom'",)),
        (("--set", "power=1"), ("section.key=value",)),
        (("--set", "method.powr=1"), ("setting of [method] 'powr'",)),
        (("--ipc", 0, "--norm", "x", "--set", "a.b=1"), ("distill.ipc", "network.norm", "[a]")),
        (("--set", "method.layers=[9]"), ("layer 9 does not exist",)),
        (("--image-lr", 1), ("No such option",)),
    ],
)
def test_wrong_options_give_one_sentence(capsys, data, tmp_path, more, parts):
    if "--image-lr" in more:
        code, _, text = call(capsys, *distill(data, tmp_path / "run", *more))
        assert code == 2
    else:
        text = refused(capsys, *distill(data, tmp_path / "run", *more))
    for part in parts:
        assert part in text
    assert not (tmp_path / "run").exists()


def test_wrong_data_and_folders_give_one_sentence(capsys, data, tmp_path):
    (tmp_path / "file").write_text("x")
    for words in (
        distill("no-such-name", tmp_path / "run"),
        distill(tmp_path / "none.npz", tmp_path / "run"),
        distill(tmp_path / "file", tmp_path / "run"),
        distill(data, tmp_path / "file"),
        distill(data, tmp_path / "file", "--overwrite"),
        distill(data, tmp_path / "file", "--resume"),
        distill(data, tmp_path / "file" / "below"),
        distill(data, "/proc/nothing/run"),
        ["select", data, "--out", tmp_path / "file"],
        ["select", data, "--out", tmp_path / "run", "--selector", "best"],
        ["select", data, "--out", tmp_path / "run", "--ipc", 0],
        ["select", data, "--out", tmp_path / "run", "--ipc", 100],
        ["select", data, "--out", tmp_path / "run", "--val", 3],
        ["select", data, "--out", tmp_path / "run", "--resolution", 0],
    ):
        refused(capsys, *words)
    assert (tmp_path / "file").read_text() == "x"
    assert not (tmp_path / "run").exists()


# select


def test_a_selection_is_a_run_like_any_other(capsys, made, data, tmp_path):
    chosen = DistilledSet.load(made / "chosen")
    assert chosen.card.kind == "selection"
    train = distilset.load_data(data, val=0.25).train
    assert (chosen.pixels * 255).round().byte().equal(train.images[list(chosen.card.rows)])
    code, out, _ = call(capsys, *distill(data, tmp_path / "run", "--init", made / "chosen"))
    assert code == 0
    assert "3 images of 3 classes" in out


# evaluate


def rows(out: str):
    document = json.loads(out)
    assert list(document) == ["rows"]
    for row in document["rows"]:
        assert tuple(row) == FIELDS
    return document["rows"]


def test_json_is_one_document_with_the_promised_fields_in_order(capsys, made, run):
    chosen = str(made / "chosen")
    networks = ("--network", "convnet:width=8,depth=1")
    code, out, err = call(
        capsys, "evaluate", run, chosen, *FAST, *networks, "--protocol", "quick",
        "--protocol", "dm", "--baseline", "random", "--baseline", "kcenter", "--json",
    )  # fmt: skip
    assert code == 0
    found = rows(out)
    assert [row["run"] for row in found[:8]] == [str(run)] * 4 + [chosen] * 4
    assert [row["protocol"] for row in found[:8]] == ["quick", "dm"] * 4
    assert all(row["run"].startswith("baseline ") for row in found[8:])
    assert len(found) == 8 + 2 * 4  # both runs are of one kind: each baseline once per cell
    first = found[0]
    assert (first["method"], first["ipc"], first["images"], first["split"]) == ("atom", 1, 3, "test")
    assert (first["epochs"], first["trials"], first["labels"]) == (1, 2, "hard")
    assert (first["norm"], first["device"], first["dataset"]) == ("instance", "cpu", "drawn")
    assert len(first["accuracies"]) == 2
    mean = sum(first["accuracies"]) / 2
    assert first["accuracy_mean"] == pytest.approx(mean)
    assert first["accuracy_std"] == pytest.approx(abs(first["accuracies"][0] - mean))
    assert "random (ipc 1, seed 0, 2 sets)" in found[8]["run"]
    assert "accuracy" in err


def test_scores_has_a_row_for_each_network_and_never_loses_one(capsys, run):
    for protocol, norm in (("dm", "batch"), ("quick", "instance")):
        words = ("evaluate", run, *FAST, "--protocol", protocol, "--norm", norm)
        code, out, _ = call(capsys, *words, "--baseline", "random")
        assert code == 0
        assert "baseline random" in out
    with (run / "scores.csv").open() as file:
        found = list(csv.DictReader(file))
    assert [(r["protocol"], r["norm"], r["trial"]) for r in found] == [
        ("dm", "batch", "0"), ("dm", "batch", "1"),
        ("quick", "instance", "0"), ("quick", "instance", "1"),
    ]  # fmt: skip
    assert all(0 <= float(r["accuracy"]) <= 100 for r in found)
    assert None not in found[0]


def test_the_whole_data_are_trained_on_once(capsys, run, monkeypatch):
    from distilset.evaluation import baselines
    from distilset.evaluation.protocols import Protocol

    short = Protocol("whole", epochs=None, batch=8, lr=0.01, schedule="cosine", updates=3)
    monkeypatch.setattr(baselines, "WHOLE", short)
    words = ("evaluate", run, *FAST, "--baseline", "whole", "--json")
    first, second = (rows(call(capsys, *words)[1])[-1] for _ in range(2))
    assert first == second
    assert (first["ipc"], first["trials"], first["protocol"]) == (None, 1, "whole")
    assert first["images"] == 12


def test_the_validation_part_is_scored_where_there_is_one(capsys, data, run, tmp_path):
    code, out, _ = call(capsys, "evaluate", run, *FAST, "--split", "val", "--json")
    assert code == 0
    assert rows(out)[0]["split"] == "val"
    assert call(capsys, *distill(data, tmp_path / "plain"))[0] == 0
    assert "--val" in refused(capsys, "evaluate", tmp_path / "plain", *FAST, "--split", "val")


def test_the_split_is_the_cards(capsys, data, tmp_path):
    """Without run.toml, the card alone says how the data were split."""
    out = tmp_path / "run"
    assert call(capsys, *distill(data, out, "--split-seed", 3, "--val", 0.3))[0] == 0
    (out / "run.toml").unlink()
    code, told, err = call(capsys, "evaluate", out, *FAST, "--split", "val", "--json")
    assert code == 0
    assert len(rows(told)) == 1
    assert "these are not the data" not in err


def test_other_data_are_noted_or_refused(capsys, run, tmp_path):
    same_kind = write_npz(tmp_path / "similar.npz", seed=4)
    code, _, err = call(capsys, "evaluate", run, *FAST, "--data", same_kind)
    assert code == 0
    assert "these are not the data" in err
    classes = write_npz(tmp_path / "classes.npz", classes=("x", "y", "z"))
    assert "3 classes" in refused_last(capsys, "evaluate", run, *FAST, "--data", classes)
    shape = write_npz(tmp_path / "shape.npz", shape=(1, 8, 12))
    assert "3x8x8" in refused_last(capsys, "evaluate", run, *FAST, "--data", shape)
    assert not (run / "no").exists()


def refused_last(capsys, *words):
    """As `refused`, where a note may come first."""
    code, out, err = call(capsys, *words)
    assert (code, out) == (2, "")
    assert err.splitlines()[-1].startswith("error: ")
    return err.splitlines()[-1]


@pytest.mark.parametrize(
    ("more", "part"),
    [
        (("--norm", "bach"), "norm"),
        (("--protocol", "dmm"), "did you mean 'dm'"),
        (("--baseline", "rnd"), "unknown baseline 'rnd'"),
        (("--network", "resnet"), "unknown network"),
        (("--network", "convnet:widht=8"), "widht"),
        (("--network", "convnet:name=resnet"), "unknown network 'resnet'"),
        (("--network", "convnet:width=7"), "width"),
        (("--split", "train"), "test or val"),
        (("--trials", 0), "1 or more"),
        (("--epochs", 0), "1 or more"),
        (("--precision", "fp8"), "unknown precision 'fp8'"),
        (("--device", "gpu"), "device 'gpu'"),
        (("--threads", 0), "threads must be 1 or more"),
        (("--data", "no-such-data"), "no-such-data"),
    ],
)
def test_wrong_options_of_evaluate_give_one_sentence(capsys, run, more, part):
    assert part in refused(capsys, "evaluate", run, "--json", *more)
    assert not (run / "scores.csv").exists()


def test_runs_that_cannot_be_read_give_one_sentence(capsys, run, tmp_path):
    assert "there is no run" in refused(capsys, "evaluate", run, tmp_path / "none")
    (run / "distilled.safetensors").write_bytes(b"garbage")
    assert "is damaged" in refused(capsys, "evaluate", run)
    (run / "distilled.json").unlink()
    assert "not finished" in refused(capsys, "evaluate", run)


def test_a_baseline_that_cannot_be_drawn_is_refused_before_any_training(capsys, data, tmp_path):
    big = distill(data, tmp_path / "big", "--init", "noise", "--ipc", 40)
    assert call(capsys, *big)[0] == 0
    text = refused(capsys, "evaluate", tmp_path / "big", *FAST, "--baseline", "random")
    assert "40" in text
    assert not (tmp_path / "big" / "scores.csv").exists()


def test_a_run_from_python_needs_its_data_named(capsys, data, tmp_path):
    from torch.utils.data import TensorDataset

    train = distilset.load_data(data).train
    python = distilset.load_data(TensorDataset(train.images, train.labels)).train
    distil(python, steps=1, out=tmp_path / "run")
    assert "--data" in refused(capsys, "evaluate", tmp_path / "run", *FAST)


# What is shown


def test_bars_on_a_terminal_take_any_title_and_end(capsys):
    console = Console(force_terminal=True, file=io.StringIO(), emoji=False)
    with training_bars(console) as watch:
        for networks in (1, 3):
            progress = watch("[/b] runs/a", networks)
            for trial in range(networks):
                progress(trial, 5, 5)
        watch("cached", 5)
        progress = watch("broken off", 5)
        progress(0, 1, 5)
    shown = Bar(console, "[x]", 3)
    shown.update(2, "[/note]")
    shown.close()
    assert console._live_stack == []


def test_tables_show_markup_as_text():
    console = Console(file=io.StringIO(), emoji=False, width=80)
    console.print(plain_table("", ("[b]name", "n"), [("[/x]", 3), (":smile:", 4)]))
    text = console.file.getvalue()  # type: ignore[attr-defined]
    assert all(part in text for part in ("[b]name", "[/x]", ":smile:"))


def test_a_diverged_network_is_null_in_json():
    facts = dict.fromkeys(FIELDS[:-4], "x") | {"epochs": 1, "images": 1, "seed": 0, "ipc": 1}
    del facts["trials"]
    facts |= {"labels": "hard", "augmentation": "none"}
    row = Score.of([float("nan"), 5.0], seconds=1.0, **facts).as_row()
    assert json.loads(json.dumps(row, allow_nan=False))["accuracies"] == [None, 5.0]
