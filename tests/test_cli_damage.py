"""Every command on a damaged run: one sentence and an exit code, never a traceback."""

import json
import shutil
from contextlib import suppress

import pytest

from tests.small import ARGS, call, write_npz

CARD, IMAGES, SETTINGS = "distilled.json", "distilled.safetensors", "run.toml"
FAST = ("--epochs", 1, "--network", "convnet:width=8,depth=2", "--device", "cpu")


def put(name, content):
    return lambda run: (run / name).write_bytes(content)


def carded(**changes):
    def edit(run):
        card = json.loads((run / CARD).read_text()) | changes
        (run / CARD).write_text(json.dumps(card))

    return edit


DAMAGE = {
    "images cut off": lambda run: put(IMAGES, (run / IMAGES).read_bytes()[:-9])(run),
    "a header of gigabytes": put(IMAGES, b"\xff" * 7 + b"\0" + b"{}"),
    "a card of brackets": put(CARD, b"[" * 100_000),
    "a card that is no text": put(CARD, b"\xff\xfe\0"),
    "a class with an escape": carded(classes=["a", "b", "c\x1b[2J\x1b]0;x\x07"]),
    "half a surrogate": carded(method="\ud800"),
    "another shape": carded(image=[3, 10**9, 10**9]),
    "settings without end": put(SETTINGS, b"[distill]\n" + b"a." * 300 + b"a = 1\n"),
    "a number of miles": put(SETTINGS, b"[distill]\nsteps = 0x" + b"f" * 9000 + b"\n"),
    "code in the settings": put(SETTINGS, b'[method]\nname = "evil:X"\n[distill]\n'),
    "a network in disguise": put(SETTINGS, b'[network]\nname = "convnet:evil"\n[distill]\n'),
    "checkpoints of zeros": put("checkpoint.safetensors", b"\0" * 4000),
    "metrics of brackets": put("metrics.jsonl", b"[" * 100_000 + b"\n{}\n"),
    "scores of nothing": put("scores.csv", b"\0\xff,=1\n,,,\n"),
    "baselines of lists": put("baselines.jsonl", b'{"ipc": [], "accuracies": [1]}\n'),
}
HARMLESS = ("checkpoints of zeros", "metrics of brackets", "scores of nothing")

COMMANDS = {
    "show": lambda run, data, out: ("show", run),
    "export": lambda run, data, out: ("export", run, "--format", "npz", "--out", out),
    "compare": lambda run, data, out: ("compare", run, "--format", "csv"),
    "report": lambda run, data, out: ("report", run, "--out", out),
    "train": lambda run, data, out: ("train", run, "--out", out, *FAST),
    "evaluate": lambda run, data, out: ("evaluate", run, "--trials", 1, *FAST),
    "resume": lambda run, data, out: ("distill", data, "--out", run, "--resume", "--steps", 3),
    "init": lambda run, data, out: (
        *("distill", data, "--out", out, "--steps", 1, "--init", run, *ARGS),
    ),
    "preset": lambda run, data, out: (
        *("distill", data, "--out", out, "--steps", 1, "--preset", run / SETTINGS, "--dry-run"),
    ),
}


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    folder = tmp_path_factory.mktemp("made")
    data = write_npz(folder / "drawn.npz")
    import sys

    from distilset import cli

    before = sys.argv
    sys.argv = ["distilset", "distill", data, "--out", str(folder / "run"), "--steps", "2", *ARGS]
    with suppress(SystemExit):
        cli.main()
    sys.argv = before
    return folder


@pytest.mark.parametrize("command", COMMANDS)
@pytest.mark.parametrize("damage", DAMAGE)
def test_a_damaged_run_is_one_sentence(capsys, made, tmp_path, damage, command):
    if damage in HARMLESS and command in ("train", "evaluate", "init", "preset", "export"):
        pytest.skip("the command does not read it, and takes long without being refused")
    run = tmp_path / "run"
    shutil.copytree(made / "run", run)
    DAMAGE[damage](run)
    before = {path.name for path in tmp_path.iterdir()}
    words = COMMANDS[command](run, made / "drawn.npz", tmp_path / "out")
    code, out, err = call(capsys, *words)
    assert code in (0, 2), err
    assert "Traceback" not in out + err
    assert not set(out + err) & set("\x1b\x07")
    if code == 2:
        errors = [line for line in err.splitlines() if line.startswith("error: ")]
        assert len(errors) == 1
        assert err.splitlines()[-1] == errors[0]
    assert {path.name for path in tmp_path.iterdir()} <= before | {"out"}


@pytest.mark.parametrize("damage", ["images cut off", "a card of brackets", "another shape"])
@pytest.mark.parametrize("command", ["show", "export", "report", "train", "evaluate", "init"])
def test_what_cannot_be_read_is_refused(capsys, made, tmp_path, damage, command):
    run = tmp_path / "run"
    shutil.copytree(made / "run", run)
    DAMAGE[damage](run)
    words = COMMANDS[command](run, made / "drawn.npz", tmp_path / "out")
    assert call(capsys, *words)[0] == 2
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("name", ["x.pt", "x.npz", "x.parquet", "x"])
@pytest.mark.parametrize(
    "content", [b"", b"PK\x05\x06" + b"\xff" * 30, b"PAR1\0PAR1", b"\x80\x02."]
)
def test_a_damaged_import_or_data_file_is_one_sentence(capsys, made, tmp_path, name, content):
    (tmp_path / name).write_bytes(content)
    out = tmp_path / "out"
    data = made / "drawn.npz"
    for words in (
        ("import", tmp_path / name, "--dataset", data, "--out", out),
        ("distill", tmp_path / name, "--out", out),
    ):
        code, _, err = call(capsys, *words)
        assert code == 2
        assert err.splitlines()[-1].startswith("error: ")
        assert not out.exists()
