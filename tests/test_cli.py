"""The command line, run in this process: words, exit codes, what goes to which stream."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

import distilset
from distilset import DistilledSet
from distilset.cli import KINDS
from tests.small import (
    ARGS,
    FAST,
    PULL,
    call,
    distil,
    distill,
    metrics,
    refused,
    splits,
    tree,
    write_npz,
)

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


def test_a_method_may_lie_in_the_current_folder(capsys, data, tmp_path, monkeypatch):
    code = "from distilset.methods.dm import DM\n\n\nclass Mine(DM):\n    pass\n"
    (tmp_path / "beside_me.py").write_text(code)
    monkeypatch.setattr(sys, "path", [p for p in sys.path if p])
    words = distill(data, tmp_path / "run", "--method", "beside_me:Mine")
    assert "cannot be imported" in refused(capsys, *words)
    monkeypatch.chdir(tmp_path)
    assert call(capsys, *words)[0] == 0
    sys.modules.pop("beside_me")


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
        distill("", tmp_path / "run"),
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


def test_bank_is_built_ahead_and_shared(capsys, data):
    """What `bank` built, a run with the same settings finds."""
    words = [word for word in ARGS if word not in ("--ipc",)]
    del words[words.index("1")]
    two = ("--threads", 2, "--workers", 2)  # of one thread each, as before
    for size, built, more in ((2, 2, ()), (3, 1, two), (3, 0, ())):
        code, out, _ = call(capsys, "bank", data, "--size", size, *words, *more)
        assert (code, out.strip()) == (
            0,
            f"bank of {size} targets: {built} built, the rest was there",
        )
