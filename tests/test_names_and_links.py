"""Names that carry more than a name, and links that lead out of a run."""

import json
import os

import pytest

from distilset.errors import DataError, plain
from distilset.evaluation.book import Book, append_baseline
from distilset.evaluation.judge import TrialResult
from distilset.evaluation.score import Score
from distilset.exchange.names import folder_name
from distilset.files import write_text
from distilset.lock import HOLDER, LOCK, RunLock
from distilset.reporting.collect import read_run
from distilset.reporting.formats import comma_separated
from distilset.reporting.page import Real, compose, to_html
from distilset.reporting.tables import tabulate
from distilset.store import DistilledSet, claim
from distilset.terminal import plain_table, stdout
from tests.reporting.runs import add_scores, make_run
from tests.small import refused, write_npz


@pytest.fixture
def run(tmp_path):
    return make_run(tmp_path / "run")


def edit_card(run, **changes):
    card = json.loads((run / "distilled.json").read_text()) | changes
    (run / "distilled.json").write_text(json.dumps(card))


@pytest.mark.parametrize(
    ("names", "part"),
    [
        (["a", "b", "c\x1b[2J"], "control characters"),
        (["a", "b", "\ud800"], "surrogates not allowed"),
        (["a", "b", "x" * 2000], "at most 1000"),
        (["a", "a", "b"], "two classes"),
        (["a", "b", ""], "empty"),
    ],
)
def test_class_names_of_cards_are_those_that_data_may_have(run, names, part):
    edit_card(run, classes=names)
    with pytest.raises(DataError, match=part):
        DistilledSet.load(run)


EVIL = "\x1b]0;title\x07\u202exe\nline"


def test_what_is_printed_holds_no_escape_sequences(capsys, run):
    edit_card(run, method=EVIL, notes=[EVIL])
    console = stdout()
    console.print(plain_table("", ("card", EVIL), [(EVIL, EVIL)]))
    console.print(EVIL, markup=False)
    told = capsys.readouterr().out
    from tests.small import call

    told += call(capsys, "show", run)[1]
    assert not set(told) & set("\x1b\x07\u202e")
    assert plain(EVIL) == " ]0;title xe line"


def test_errors_are_one_line_without_tricks(capsys, tmp_path):
    assert str(DataError(EVIL)) == plain(EVIL)
    told = refused(capsys, "show", tmp_path / "a\x1b[2Jb")
    assert "\x1b" not in told


def test_a_page_does_not_turn_its_direction(run):
    edit_card(run, classes=["a", "b", "\u202egnp.exe"], method="\u202em")
    facts = read_run(run)
    page = to_html(compose([facts], {facts.name: Real(None)}))
    assert "\u202e" not in page
    assert "gnp.exe" in page


def test_spreadsheets_run_no_name(run, tmp_path):
    add_scores(run, [50.0], network="=cmd|' /C calc'!A0")
    text = comma_separated(tabulate(read_run(run).results))
    assert not any(cell.startswith("=") for line in text.splitlines() for cell in line.split(","))
    Book().append(tmp_path / "s.csv", "k", {"method": "=1+1"}, {0: TrialResult(1.0, 1.0, "")})
    assert ",=" not in "," + (tmp_path / "s.csv").read_text().replace("\n", "\n,")


def test_windows_has_more_reserved_names():
    assert [folder_name(name) for name in ("COM¹", "lpt2.x", "CONIN$", "com")] == [
        "COM¹_",
        "lpt2.x_",
        "CONIN$_",
        "com",
    ]


@pytest.fixture
def outside(tmp_path):
    (tmp_path / "outside").mkdir()
    (tmp_path / "outside" / "mine").write_text("mine")
    (tmp_path / "outside" / "events.out.tfevents.1").write_text("mine")
    return tmp_path / "outside"


def unharmed(outside):
    return {path.name: path.read_text() for path in outside.iterdir()} == {
        "mine": "mine",
        "events.out.tfevents.1": "mine",
    }


def score():
    facts = {
        "run": "b", "method": "random", "dataset": "d", "ipc": 1, "network": "convnet",
        "norm": "instance", "protocol": "dm", "epochs": 1, "labels": "hard", "images": 3,
        "augmentation": "dsa", "split": "test", "seed": 0, "device": "cpu",
    }  # fmt: skip
    return Score.of([50.0], seconds=1.0, **facts)


def test_nothing_is_written_through_links_in_a_run(run, outside):
    for name in ("baselines.jsonl", "scores.csv", "metrics.jsonl"):
        (run / name).unlink(missing_ok=True)
        (run / name).symlink_to(outside / "mine")
    for process in (os.getpid(),):
        (run / f".scores.csv.{process}.partial").symlink_to(outside / "mine")
        (run / f".run.toml.{process}.partial").symlink_to(outside / "mine")
    append_baseline(run / "baselines.jsonl", score())
    Book().append(run / "scores.csv", "k", {}, {0: TrialResult(1.0, 1.0, "")})
    write_text(run / "run.toml", "[made]\n")
    (run / "tensorboard").symlink_to(outside)
    claim(run, overwrite=True)
    assert unharmed(outside)
    assert not (run / "tensorboard").exists()


def test_a_lock_is_not_taken_through_a_link(run, outside):
    """Taking a lock empties its file."""
    for name in (LOCK, HOLDER):
        (run / name).unlink(missing_ok=True)
        (run / name).symlink_to(outside / "mine")
    lock = RunLock(run)
    lock.refuse()
    lock.take()
    lock.release()
    assert unharmed(outside)


def test_tensorboard_does_not_write_through_a_link(tmp_path, outside):
    from tests.small import start

    start(tmp_path / "run", steps=6, stop_at=2)
    (tmp_path / "run" / "tensorboard").symlink_to(outside)
    train = tmp_path / "d.npz"
    write_npz(train)
    from distilset.runfolder import RunFolder
    from distilset.session import open_session
    from tests.small import splits

    folder = RunFolder(tmp_path / "run", resume=True)
    session = open_session(folder.settle({}), splits().train, folder)
    session.tensorboard = True
    assert len(list(session.records())) == 4
    assert unharmed(outside)
