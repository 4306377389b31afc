"""The command `evaluate`: its table, its JSON document, its refusals."""

import csv
import json

import pytest

import distilset
from distilset.evaluation.score import Score
from tests.small import FAST, call, distil, distill, refused, write_npz

FIELDS = (
    *("run", "method", "dataset", "ipc", "factor", "network", "norm", "protocol"),
    *("epochs", "trials"),
    *("labels", "augmentation", "pixels", "split", "images", "seed", "device"),
    *("accuracy_mean", "accuracy_std", "accuracies", "seconds"),
)


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
    assert (first["method"], first["ipc"], first["images"], first["split"]) == (
        "atom",
        1,
        3,
        "test",
    )
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
    from distilset.training.protocols import Protocol

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
        (("--augment", "yes"), "unknown augment 'yes'"),
        (("--labels", "soft"), "unknown labels 'soft'"),
        (("--pixels", "jpg"), "unknown pixels 'jpg'"),
        (("--trials", 0), "1 or more"),
        (("--epochs", 0), "1 or more"),
        (("--precision", "fp8"), "unknown precision 'fp8'"),
        (("--device", "gpu"), "device 'gpu'"),
        (("--threads", 0), "threads must be 1 or more"),
        (("--together", 0), "together must be 1 or more"),
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


def test_a_diverged_network_is_null_in_json():
    facts = dict.fromkeys(FIELDS[:-4], "x") | dict.fromkeys(("epochs", "images", "seed"), 1)
    facts |= {"ipc": 1, "factor": 1}
    del facts["trials"]
    facts |= {"labels": "hard", "augmentation": "none", "pixels": "png"}
    row = Score.of([float("nan"), 5.0], seconds=1.0, **facts).as_row()
    assert json.loads(json.dumps(row, allow_nan=False))["accuracies"] == [None, 5.0]


def test_networks_trained_together_come_out_as_alone(capsys, run):
    both = [rows(call(capsys, "evaluate", run, *FAST, *more, "--json")[1])[0]
            for more in ((), ("--together", 2, "--again"))]  # fmt: skip
    assert both[1]["accuracies"] == pytest.approx(both[0]["accuracies"], abs=5)  # 24 images
    with (run / "scores.csv").open() as file:
        computed = [row["compute"] for row in csv.DictReader(file)]
    assert ["together" in text for text in computed] == [False, False, True, True]


def test_a_second_call_trains_nothing_that_is_done(capsys, run):
    first, second = (rows(call(capsys, "evaluate", run, *FAST, "--json")[1]) for _ in range(2))
    assert first[0]["accuracies"] == second[0]["accuracies"]
    with (run / "scores.csv").open() as file:
        assert len(list(csv.DictReader(file))) == 2
    assert call(capsys, "evaluate", run, *FAST, "--again")[0] == 0
    with (run / "scores.csv").open() as file:
        assert len(list(csv.DictReader(file))) == 4


def test_variants_and_ranking_are_shown(capsys, run, monkeypatch):
    from distilset.evaluation import baselines
    from distilset.training import Protocol

    short = Protocol("whole", epochs=None, batch=8, lr=0.01, schedule="cosine", updates=3)
    monkeypatch.setattr(baselines, "WHOLE", short)
    words = ("evaluate", run, *FAST, "--augment", "both", "--pixels", "both", "--ranking")
    code, out, _ = call(capsys, *words)
    assert code == 0
    assert "fixed protocol" in out
    assert all(name in out for name in ("augmentation", "pixels", "png", "HLR", "LRS", "ARS"))
    document = json.loads(call(capsys, *words, "--json")[1])
    assert [(r["augmentation"], r["pixels"]) for r in document["rows"]] == [
        ("dsa", "float"), ("dsa", "png"), ("none", "float"), ("none", "png"),
    ]  # fmt: skip
    (row,) = document["ranking"]
    assert (row["trials"], row["whole_trials"], row["own"]) == (2, 1, row["hard"])
    assert row["hlr"] == pytest.approx((row["whole"] - row["hard"]) / 100)
