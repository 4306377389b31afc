"""Runs in which several images are decoded from each stored one, along the straight line."""

import json

import numpy as np
import pytest
import torch
from torch.utils.data import DataLoader

import distilset
from distilset import ConfigError, DistilledSet, ReplayMemory
from distilset.card import read_card
from distilset.data.normalise import fit_transform
from distilset.evaluation.variants import Variant
from distilset.exchange import FORMATS
from distilset.formation import decode, encode
from distilset.grid import to_bytes
from distilset.initial import initial_images
from distilset.reporting.collect import all_results, read_runs
from distilset.reporting.page import Real, compose, to_html
from distilset.reporting.published import beside_published
from distilset.reporting.tables import tabulate
from distilset.rng import Rng
from distilset.runfolder import RunFolder
from tests.references.formation import decoded
from tests.reporting.runs import add_scores, make_run
from tests.small import ARGS, PULL, call, content, distil, refused, same_images, splits, start
from tests.small import write_npz as write_data

FACTOR = {"distill": {"factor": 2}}
FAST = {"network": "convnet:width=8,depth=2", "epochs": 1, "trials": 1, "device": "cpu"}


@pytest.fixture(scope="module")
def made():
    return distil(factor=2, steps=2)


@pytest.fixture(scope="module")
def whitened():
    return distil(factor=2, steps=2, zca=True)


@pytest.fixture(scope="module")
def straight(tmp_path_factory):
    run = tmp_path_factory.mktemp("straight") / "run"
    start(run, settings=FACTOR)
    return run


# Distilling


def test_a_run_that_stops_and_goes_on_equals_one_that_does_not(straight, tmp_path):
    run = tmp_path / "run"
    start(run, settings=FACTOR, stop_at=3)
    start(run, resume=True)
    assert content(run) == content(straight)


def test_a_factor_is_part_of_what_a_run_is(straight, tmp_path):
    with pytest.raises(ConfigError, match=r"distill\.factor: 2 -> 1"):
        start(straight, resume=True, settings={"distill": {"factor": 1}})
    run = tmp_path / "old"
    start(run, stop_at=2)
    toml = (run / "run.toml").read_text().replace("factor = 1\n", "")
    (run / "run.toml").write_text(toml)
    with pytest.raises(ConfigError, match=r"distill\.factor: 1 -> 2"):
        start(run, resume=True, settings=FACTOR)
    assert start(run, resume=True, settings={"distill": {"factor": 1}}) == [3, 4, 5, 6]


def test_stored_images_are_the_only_thing_that_moves():
    first, second = distil(factor=2, steps=0), distil(factor=2, steps=3)
    moved = (first.pixels - second.pixels).abs()
    assert bool((moved > 0).all())
    assert not same_images(second, distil(steps=3))


def test_a_method_that_does_not_decode_is_refused():
    with pytest.raises(ConfigError, match="does not decode stored images"):
        distil(factor=2, method=PULL)
    distil(method=PULL, steps=1)


@pytest.mark.parametrize(
    ("factor", "part"),
    [(0, "greater than or equal to 1"), (3, "does not divide"), (4, "less than 4 pixels")],
)
def test_factors_that_do_not_fit_the_data(factor, part):
    with pytest.raises(ConfigError, match=part):
        distil(factor=factor)


# Initial images


@pytest.mark.parametrize("zca", [False, True])
def test_pieces_are_filled_with_real_images_of_the_class(zca):
    train = splits(counts=(9, 8, 8)).train
    transform = fit_transform(train, zca=zca)
    images = initial_images("kcenter", train, transform, 2, Rng(0), 2)
    chosen = distilset.select(train, "kcenter", 8).card.rows
    whole = transform.apply(train.images[list(chosen)])
    assert torch.equal(images, encode(whole, 2))
    means = torch.nn.functional.adaptive_avg_pool2d(whole, 1)
    assert torch.allclose(torch.nn.functional.adaptive_avg_pool2d(decode(images, 2), 1),
                          means, atol=0.4)  # fmt: skip
    with pytest.raises(ConfigError, match=r"ipc 3 x 4 \(factor 2\) is more than class 'class 1'"):
        initial_images("kcenter", train, transform, 3, Rng(0), 2)


def test_a_run_as_init_must_have_the_same_factor(made, tmp_path):
    made.save(tmp_path / "several")
    distil(steps=0).save(tmp_path / "single")
    again = distil(factor=2, steps=0, init=str(tmp_path / "several"))
    assert torch.allclose(again.pixels, made.pixels, atol=1e-5)
    for factor, run in ((1, "several"), (2, "single")):
        with pytest.raises(ConfigError, match=f"init needs {factor}"):
            distil(factor=factor, steps=0, init=str(tmp_path / run))


# Sets


@pytest.mark.parametrize("kind", ["made", "whitened"])
def test_a_set_comes_back_with_its_factor(request, tmp_path, kind):
    made = request.getfixturevalue(kind)
    made.save(tmp_path / "run")
    loaded = DistilledSet.load(tmp_path / "run")
    assert (loaded.card.factor, loaded.card.ipc, len(loaded.pixels), len(loaded)) == (2, 1, 3, 12)
    assert same_images(loaded, made)
    images, labels = next(iter(DataLoader(loaded, batch_size=12)))
    assert torch.equal(images, loaded.tensors()[0])
    assert labels.tolist() == [0] * 4 + [1] * 4 + [2] * 4
    stored = loaded.transform.apply(loaded.pixels).double().numpy()
    expected = np.stack([one for image in stored for one in decoded(image, 2)])
    assert np.allclose(images.numpy(), expected, atol=1e-4)


def test_cards_say_a_newer_version_only_where_they_must(made, tmp_path):
    versions = {}
    for name, one in (("several", made), ("single", distil(steps=0))):
        one.save(tmp_path / name)
        versions[name] = json.loads((tmp_path / name / "distilled.json").read_text())
    assert {name: card["schema_version"] for name, card in versions.items()} == {
        "several": 2,
        "single": 1,
    }
    path = tmp_path / "single" / "distilled.json"
    path.write_text(json.dumps({k: v for k, v in versions["single"].items() if k != "factor"}))
    assert read_card(path).factor == 1


def test_what_is_decoded_must_fit_the_memory(made, tmp_path, monkeypatch):
    made.save(tmp_path / "run")
    monkeypatch.setattr("distilset.card.memory_bytes", lambda: made.pixels.numel() * 15)
    with pytest.raises(distilset.DataError, match="more than this machine has"):
        DistilledSet.load(tmp_path / "run")


@pytest.mark.parametrize("kind", ["made", "whitened"])
def test_8_bits_are_those_of_the_stored_images(request, kind):
    made = request.getfixturevalue(kind)
    images, labels = Variant(pixels="png", labels="hard").tensors(made)
    stored = made.transform.apply(to_bytes(made.pixels).float() / 255)
    assert torch.allclose(images, decode(stored, 2), atol=1e-5)
    assert len(labels) == len(images) == 12


def test_a_row_of_results_names_the_factor(made):
    score = distilset.evaluate(made, splits().test, **FAST)
    assert (score.ipc, score.factor, score.images) == (1, 2, 12)
    assert "ipc 1, factor 2" in str(score)
    trained = distilset.train_network(made, **{k: FAST[k] for k in ("network", "epochs", "device")})
    assert (trained.facts["factor"], trained.facts["images"]) == (2, 12)


# For others


@pytest.mark.parametrize("kind", ["made", "whitened"])
def test_the_decoded_set_trains_the_same_without_a_factor(request, kind):
    made = request.getfixturevalue(kind)
    plain = made.decoded()
    assert (plain.card.factor, len(plain.pixels)) == (1, 12)
    assert torch.allclose(plain.tensors()[0], made.tensors()[0], atol=1e-4)
    assert torch.equal(plain.tensors()[1], made.tensors()[1])
    assert "several images decoded from each stored one" in plain.card.notes[-1]
    assert plain.decoded() is plain


@pytest.mark.parametrize("format", FORMATS)
def test_exports_hold_the_images_to_train_on_and_say_so(made, tmp_path, format):
    path = tmp_path / ("set.npz" if format == "npz" else "set")
    distilset.export_set(made, format, path)
    if FORMATS[format].folder:
        text = (path / "README.md").read_text("utf-8").replace("\\", "")
        assert "several images decoded from each stored one" in text
        assert "4 (decoded from 1 stored)" in text
    elif format == "npz":
        with np.load(path, allow_pickle=False) as file:
            assert "factor 2" in str(file["notes"][-1])
    else:
        assert "factor 2" in torch.load(path, weights_only=True)["notes"][-1]
    back = distilset.import_set(path, splits().train)
    assert (back.card.ipc, len(back)) == (4, 12)
    exact = format in ("npz", "pt", "ddranking")
    shown = made.decoded().pixels if exact else made.decoded().pixels.clamp(0, 1)
    found = back.pixels
    assert torch.allclose(found, shown, atol=1e-5 if exact else 0.01)


def test_a_memory_gives_what_is_decoded_and_counts_what_is_kept():
    memory = ReplayMemory(1, "dm", factor=2, steps=1, batch_real=4, **{"device": "cpu"},
                          network="convnet:width=8,depth=2", compile="off", threads=1)  # fmt: skip
    train = splits().train
    memory.observe(train.images, train.labels)
    assert (len(memory), memory.bytes) == (3, 3 * 3 * 64)
    images, labels = memory.dataset()[:]
    assert labels.tolist() == [0] * 4 + [1] * 4 + [2] * 4
    pixels, _ = memory.dataset(normalised=False)[:]
    assert torch.allclose(memory.transform.apply(pixels), images, atol=1e-5)


# Tables


def test_tables_and_pages_keep_such_runs_apart(tmp_path):
    info = {"name": "cifar10"}
    runs = [
        make_run(tmp_path / name, method="datadam", ipc=10, dataset=info, factor=factor)
        for name, factor in (("single", 1), ("several", 2))
    ]
    for run, base in zip(runs, (40, 60), strict=True):
        add_scores(run, [base, base + 1, base + 2])
    facts = read_runs(runs)
    table = tabulate(all_results(facts))
    assert {row.name: row.method for row in table.rows} == {
        str(runs[0]): "datadam",
        str(runs[1]): "datadam, factor 2",
    }
    assert [cell.mark for row in table.rows for cell in row.cells if cell] == ["", ""]
    assert [pair.ours.name for pair in beside_published(facts)] == [str(runs[0])]
    page = to_html(compose(facts[1:], {run.name: Real(None) for run in facts[1:]}))
    assert "10 per class, factor 2" in page
    assert "30 synthetic images, 120 decoded" in page


# The command line


def test_the_command_line_names_the_factor_everywhere(capsys, tmp_path):
    data, run = write_data(tmp_path / "data.npz"), tmp_path / "run"
    line = ("distill", data, "--out", run, "--steps", 2, *ARGS, "--factor", 2)
    assert "does not divide" in refused(capsys, *line[:-1], 3)
    _, _, plan = call(capsys, *line, "--dry-run")
    assert "(factor 2)" in plan
    assert call(capsys, *line)[0] == 0
    assert RunFolder(run, resume=True).settle({}).distill.factor == 2
    _, shown, _ = call(capsys, "show", run)
    assert "(factor 2)" in shown
    fast = ("--network", FAST["network"], "--epochs", 1, "--trials", 1, "--device", "cpu")
    _, table, _ = call(capsys, "evaluate", run, *fast)
    assert "factor" in table
    (row,) = json.loads(call(capsys, "evaluate", run, *fast, "--json")[1])["rows"]
    assert (row["ipc"], row["factor"], row["images"]) == (1, 2, 12)
    _, told, _ = call(capsys, "export", run, "--format", "imagefolder", "--out", tmp_path / "out")
    assert "12 images as imagefolder" in told
