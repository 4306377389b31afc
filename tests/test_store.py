import os
import shutil

import pytest
import torch
from PIL import Image
from safetensors.torch import load_file, save_file
from torch.utils.data import DataLoader

import distilset
from distilset import DataError, DistilledSet
from distilset.cache import cache_folder
from distilset.store import OURS, claim, refuse_used
from tests.small import PULL, distil, mutations, same_images, splits, tree


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    folder = tmp_path_factory.mktemp("store") / "run"
    distil(out=folder)
    return folder


@pytest.fixture
def copy(run, tmp_path):
    return shutil.copytree(run, tmp_path / "copy")


@pytest.fixture(scope="module")
def whitened():
    return distil(zca=True)


@pytest.fixture
def whitened_run(whitened, tmp_path):
    whitened.save(tmp_path / "zca")
    return tmp_path / "zca"


def refusal(folder) -> str:
    with pytest.raises(DataError) as caught:
        DistilledSet.load(folder).tensors()
    text = str(caught.value)
    assert str(folder) in text
    return text


def test_a_run_folder_has_what_is_promised_and_loads(run):
    names = {
        *("run.toml", "distilled.safetensors", "distilled.json", "metrics.jsonl", "grid.png"),
        *("checkpoint.safetensors", ".run.lock"),
    }
    assert set(tree(run)) == names
    loaded = DistilledSet.load(run)
    assert len(loaded) == 3
    assert loaded.labels.tolist() == [0, 1, 2]
    assert loaded.classes == splits().train.classes
    assert loaded.card.steps == 6
    assert loaded.settings["distill"]["steps"] == 6
    images, labels = next(iter(DataLoader(loaded, batch_size=3)))
    assert torch.equal(images, loaded.tensors()[0])
    assert torch.equal(labels, loaded.labels)
    assert torch.equal(loaded[1][0], images[1])


def test_images_are_floats_in_pixel_space_and_return_exactly(run):
    stored = load_file(run / "distilled.safetensors")
    loaded = DistilledSet.load(run)
    assert stored["images"].dtype == torch.float32
    back = stored["images"].sub(0.5).div(0.25)
    assert torch.allclose(loaded.tensors()[0], back, atol=1e-6)


def test_saving_and_loading_changes_nothing(run, tmp_path):
    loaded = DistilledSet.load(run)
    loaded.save(tmp_path / "again")
    again = DistilledSet.load(tmp_path / "again")
    assert again.card == loaded.card
    assert again.settings == loaded.settings
    for name in ("distilled.safetensors", "distilled.json", "run.toml", "grid.png"):
        assert (tmp_path / "again" / name).read_bytes() == (run / name).read_bytes()


def test_a_set_can_be_saved_over_the_run_it_was_loaded_from(copy):
    before = DistilledSet.load(copy)
    before.save(copy, overwrite=True)
    assert same_images(DistilledSet.load(copy), before)


def test_odd_class_names_survive(tmp_path):
    train = splits().train
    names = ("[b]x[/c]", ' "quoted" \\ é 漢 🎈', ":smile:")
    odd = type(train)(train.images, train.offsets, names, train.role, train.info)
    distil(odd, steps=1).save(tmp_path / "odd")
    assert DistilledSet.load(tmp_path / "odd").classes == names


@pytest.mark.parametrize("channels", [1, 2, 3, 4])
def test_sets_of_any_channels_and_many_classes_are_drawn(tmp_path, channels):
    train = splits(shape=(channels, 4, 9), counts=[2] * 23).train
    distil(train, steps=0, ipc=12, init="noise").save(tmp_path / "run")
    with Image.open(tmp_path / "run" / "grid.png") as picture:
        assert picture.mode == ("L" if channels < 3 else "RGB")
        assert picture.width >= 200


# Refusals to write


def test_a_used_folder_is_left_alone_without_overwrite(copy):
    (copy / "notes.txt").write_text("mine")
    before = tree(copy)
    made = distil(steps=1)
    with pytest.raises(DataError, match="--overwrite"):
        made.save(copy)
    assert tree(copy) == before
    made.save(copy, overwrite=True)
    assert (copy / "notes.txt").read_text() == "mine"
    assert DistilledSet.load(copy).card.steps == 1
    assert not (copy / "metrics.jsonl").exists()


def test_only_files_of_ours_are_ever_removed(tmp_path):
    foreign = [
        "checkpoint-notes.txt",
        "download.partial",
        ".x.txt.12.partial",
        "distilled.json.bak",
    ]
    for name in [*OURS, ".distilled.json.123.partial", *foreign]:
        (tmp_path / name).write_text(name)
    (tmp_path / "checkpoints").mkdir()
    (tmp_path / "checkpoints" / "inside").write_text("x")
    claim(tmp_path, overwrite=True)
    assert set(tree(tmp_path)) == {*foreign, "checkpoints/inside"}


def test_what_a_killed_save_left_may_be_written_over(tmp_path):
    (tmp_path / ".run.toml.77.partial").write_text("x")
    refuse_used(tmp_path, overwrite=False)
    (tmp_path / "grid.png").write_text("x")
    refuse_used(tmp_path, overwrite=False, half_made=True)
    (tmp_path / "checkpoint.safetensors").write_text("x")
    with pytest.raises(DataError, match="no run to go on with"):
        refuse_used(tmp_path, overwrite=False, half_made=True)


def test_a_file_is_no_run_folder(tmp_path):
    (tmp_path / "file").write_text("x")
    for overwrite in (False, True):
        with pytest.raises(DataError, match="is a file; a run needs a folder"):
            distil(steps=0).save(tmp_path / "file", overwrite=overwrite)


# Refusals to read


def test_missing_and_half_made_runs(tmp_path, copy):
    assert "there is no run" in refusal(tmp_path / "missing")
    assert "is no run folder" in refusal(tmp_path)
    (copy / "distilled.json").unlink()
    assert "not finished" in refusal(copy)
    shutil.rmtree(copy)
    copy.write_text("a file")
    assert "there is no run" in refusal(copy)


@pytest.mark.parametrize(
    ("tensors", "part"),
    [
        ({"images": torch.zeros(3, 3, 8, 8)}, "needs the tensors"),
        ({"images": torch.zeros(3, 3, 8, 8), "labels": torch.zeros(2).long()}, "labels"),
        ({"images": torch.zeros(3, 3, 8, 8), "labels": torch.zeros(3)}, "labels torch.float32"),
        ({"images": torch.zeros(3, 3, 8, 8), "labels": torch.tensor([0, 1, 3])}, "outside 0..2"),
        ({"images": torch.zeros(3, 3, 8, 8), "labels": torch.tensor([0, 1, -1])}, "outside 0..2"),
        ({"images": torch.zeros(0, 3, 8, 8), "labels": torch.zeros(0).long()}, "labels"),
        ({"images": torch.zeros(3, 3, 8, 9), "labels": torch.arange(3)}, "3, 8, 9"),
        ({"images": torch.zeros(3, 3, 64), "labels": torch.arange(3)}, "the card says"),
        ({"images": torch.zeros(3, 3, 8, 8).half(), "labels": torch.arange(3)}, "float16"),
        ({"images": torch.full((3, 3, 8, 8), torch.nan), "labels": torch.arange(3)}, "non-finite"),
        ({"images": torch.full((3, 3, 8, 8), torch.inf), "labels": torch.arange(3)}, "non-finite"),
    ],
)
def test_tensors_that_do_not_fit_are_refused(copy, tensors, part):
    save_file(tensors, copy / "distilled.safetensors")
    assert part in refusal(copy)


@pytest.mark.parametrize("text", ["[", "data = 3", "\udcff", "x = 2000-99-99", "a=" + "[" * 5000])
def test_damaged_settings_are_refused(copy, text):
    (copy / "run.toml").write_bytes(text.encode("utf-8", "surrogateescape"))
    assert "run.toml is damaged" in refusal(copy)


@pytest.mark.parametrize("name", ["distilled.safetensors", "distilled.json", "run.toml"])
def test_damage_anywhere_gives_a_sentence_or_a_set(copy, name):
    whole = (copy / name).read_bytes()
    head = 400 if name == "distilled.safetensors" else len(whole)  # the rest is pixels
    sentences = []
    for damaged in mutations(whole[:head], 60):
        (copy / name).write_bytes(damaged + whole[head:])
        try:
            assert DistilledSet.load(copy).tensors()[0].shape[1:] == (3, 8, 8)
        except DataError as error:
            sentences.append(str(error))
    assert sentences
    assert all(str(copy) in sentence for sentence in sentences)


# Whitened runs


def test_a_whitened_run_returns_to_the_images_that_were_optimised(whitened, whitened_run):
    loaded = DistilledSet.load(whitened_run)
    assert same_images(loaded, whitened)
    images = loaded.tensors()[0]
    again = loaded.transform.apply(loaded.transform.invert(images))
    assert torch.allclose(images, again, atol=1e-4)
    assert torch.allclose(images, whitened.tensors()[0], atol=1e-4)
    assert loaded.card.zca is not None


def test_digits_can_be_whitened(tmp_path):
    train = distilset.load_data("digits").train
    made = distil(train, steps=0, zca=True)
    made.save(tmp_path / "run")
    start = made.transform.apply(made.pixels)
    assert torch.allclose(DistilledSet.load(tmp_path / "run").tensors()[0], start, atol=1e-4)


def test_whitening_is_shared_by_content(whitened, whitened_run, tmp_path):
    whitened.save(tmp_path / "second")
    inodes = {
        (f / "transform.safetensors").stat().st_ino for f in (whitened_run, tmp_path / "second")
    }
    assert len(inodes) == 1


def test_a_damaged_shared_transform_is_replaced(whitened, whitened_run, tmp_path):
    shared = next(cache_folder("transforms").iterdir())
    shared.unlink()
    shared.write_bytes(b"garbage")
    whitened.save(tmp_path / "second")
    assert same_images(DistilledSet.load(tmp_path / "second"), whitened)
    assert same_images(DistilledSet.load(whitened_run), whitened)


def test_where_links_cannot_be_had_the_run_gets_a_copy(whitened, tmp_path, monkeypatch):
    def no_links(*_args):
        raise OSError("no links here")

    monkeypatch.setattr(os, "link", no_links)
    whitened.save(tmp_path / "run")
    assert same_images(DistilledSet.load(tmp_path / "run"), whitened)


def test_a_missing_or_foreign_transform_is_refused(whitened_run):
    path = whitened_run / "transform.safetensors"
    good = load_file(path)
    path.unlink()
    assert "is missing" in refusal(whitened_run)
    path.write_bytes(b"garbage")
    assert "is damaged" in refusal(whitened_run)
    save_file({**good, "matrix": good["matrix"][:5, :5].contiguous()}, path)
    assert "is damaged" in refusal(whitened_run)
    save_file({"mean": good["mean"]}, path)
    assert "is damaged" in refusal(whitened_run)
    save_file({**good, "matrix": good["matrix"] + 1}, path)
    assert "is not the transform" in refusal(whitened_run)


def test_a_run_of_somebody_elses_method_loads_without_it(tmp_path, monkeypatch):
    distil(method=PULL, out=tmp_path / "run", settings={"network": {}})
    toml = (tmp_path / "run" / "run.toml").read_text()
    (tmp_path / "run" / "run.toml").write_text(toml.replace(PULL, "no.such.module:Class"))
    assert DistilledSet.load(tmp_path / "run").card.method == PULL
