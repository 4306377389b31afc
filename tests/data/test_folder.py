import os

import numpy as np
import pytest
from PIL import Image

from distilset.data import load_data
from distilset.errors import DataError


def test_train_and_test_folders(make_folder):
    root = make_folder({"cat": 3, "dog": 2}, "train")
    make_folder({"cat": 1, "dog": 2}, "test")
    splits = load_data(root)
    assert splits.test is not None
    assert splits.train.counts == (3, 2)
    assert splits.test.counts == (1, 2)
    assert splits.train.classes == ("cat", "dog")
    assert splits.info.test_part == "official"
    assert (splits.train.role, splits.test.role) == ("train", "test")
    first = np.asarray(Image.open(root / "train/cat/0.png")).transpose(2, 0, 1)
    assert (splits.train.images[0].numpy() == first).all()


@pytest.mark.parametrize("name", ["val", "valid", "validation", "Test"])
def test_other_names_of_the_test_folder(make_folder, name):
    root = make_folder({"a": 2, "b": 2}, "train")
    make_folder({"a": 1, "b": 1}, name)
    splits = load_data(root)
    assert splits.info.test_part == "official"
    assert splits.test is not None
    assert splits.test.counts == (1, 1)


def test_test_wins_over_val(make_folder):
    root = make_folder({"a": 2}, "train")
    make_folder({"a": 1}, "val")
    make_folder({"a": 3}, "test")
    splits = load_data(root)
    assert splits.test is not None
    assert splits.test.counts == (3,)
    assert splits.val is None


def test_plain_class_folders_are_carved(make_folder):
    splits = load_data(make_folder({"a": 10, "b": 5, "c": 1}))
    assert splits.test is not None
    assert splits.train.counts == (8, 4, 1)
    assert splits.test.counts == (2, 1, 0)
    assert splits.info.test_part == "carved"


def test_train_alone_is_carved_and_a_class_may_be_called_train(make_folder):
    assert load_data(make_folder({"a": 5, "b": 5}, "train")).info.test_part == "carved"
    splits = load_data(make_folder({"car": 5, "train": 5}, name="vehicles"))
    assert splits.train.classes == ("car", "train")


def test_natural_order_of_classes_hidden_files_and_nested_images(make_folder):
    root = make_folder({"10": 2, "9": 2, "class": 2})
    (root / ".cache").mkdir()
    (root / "9" / ".DS_Store").write_bytes(b"x")
    (root / "9" / ".hidden.png").write_bytes(b"x")
    (root / "9" / "notes.txt").write_text("x")
    (root / "9" / "more" / "deep").mkdir(parents=True)
    Image.new("RGB", (8, 8)).save(root / "9" / "more" / "deep" / "x.PNG")
    splits = load_data(root)
    assert splits.test is not None
    assert splits.train.classes == ("9", "10", "class")
    assert splits.train.counts[0] + splits.test.counts[0] == 3
    assert splits.info.skipped_count == 0


def test_grey_only_when_every_image_is_grey(make_folder):
    root = make_folder({"a": 3, "b": 3}, channels=1)
    assert load_data(root).train.spec.shape == (1, 8, 8)
    Image.new("RGB", (8, 8), "red").save(root / "b" / "x.png")
    assert load_data(root).train.spec.shape == (3, 8, 8)


def test_colour_in_the_test_part_alone_makes_both_colour(make_folder):
    root = make_folder({"a": 2}, "train", channels=1)
    make_folder({"a": 2}, "test")
    splits = load_data(root)
    assert splits.test is not None
    assert splits.train.spec == splits.test.spec
    assert splits.train.spec.channels == 3


def test_non_square_images_are_kept(make_folder):
    assert load_data(make_folder({"a": 3}, height=6, width=9)).train.spec.shape == (3, 6, 9)


def test_28_pixels_are_padded_to_32(make_folder):
    train = load_data(make_folder({"a": 3}, height=28, width=28)).train
    assert train.spec.shape == (3, 32, 32)
    assert train.images[:, :, :2].max() == 0
    assert train.images[:, :, :, 30:].max() == 0
    assert train.images[:, :, 2:30, 2:30].float().mean() > 100


def test_sizes_that_differ_need_a_resolution(make_folder):
    root = make_folder({"a": 3})
    Image.new("RGB", (12, 10)).save(root / "a" / "big.png")
    with pytest.raises(DataError, match=r"8x8 .*10x12 .*--resolution"):
        load_data(root)
    splits = load_data(root, resolution=6)
    assert splits.train.spec.shape == (3, 6, 6)
    assert splits.info.resolution == 6


def test_sizes_that_differ_between_train_and_test(make_folder):
    root = make_folder({"a": 3}, "train")
    make_folder({"a": 3}, "test", height=9)
    with pytest.raises(DataError, match="--resolution"):
        load_data(root)


def test_unreadable_files_are_skipped_and_listed(make_folder):
    root = make_folder({"a": 200, "b": 100})
    names = [f"a/{i}.png" for i in (0, 3, 77, 150)] + [f"b/{i}.png" for i in range(8)]
    for i, name in enumerate(names):
        data = (root / name).read_bytes()
        (root / name).write_bytes([b"", b"nonsense", data[: len(data) // 2]][i % 3])
    splits = load_data(root)
    assert splits.test is not None
    assert splits.info.skipped_count == 12
    assert len(splits.info.skipped) == 10
    assert set(splits.info.skipped) <= set(names)
    assert len(splits.train) + len(splits.test) == 288
    kept = [p for p in sorted((root / "b").iterdir()) if f"b/{p.name}" not in names]
    expected = {np.asarray(Image.open(p)).transpose(2, 0, 1).tobytes() for p in kept}
    found = [*splits.train.of_class(1).numpy(), *splits.test.of_class(1).numpy()]
    assert {image.tobytes() for image in found} == expected


def test_more_than_five_per_cent_unreadable_is_an_error(make_folder):
    root = make_folder({"a": 10, "b": 10})
    for i in range(2):
        (root / "a" / f"{i}.png").write_bytes(b"nonsense")
    with pytest.raises(DataError, match=r"2 of 20 images cannot be read \(a/0.png, a/1.png\)"):
        load_data(root)


def test_a_whole_first_chunk_can_be_unreadable(make_folder):
    root = make_folder({"b": 30}, height=4, width=4)
    (root / "a").mkdir()
    for i in range(1400):
        (root / "a" / f"{i}.png").write_bytes(b"" if i < 70 else (root / "b/1.png").read_bytes())
    splits = load_data(root)
    assert splits.info.skipped_count == 70
    assert splits.train.spec.shape == (3, 4, 4)


def test_bombs_count_as_unreadable(make_folder, monkeypatch):
    root = make_folder({"a": 30})
    Image.new("RGB", (40, 40)).save(root / "a" / "bomb.png")
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 1000)
    assert load_data(root).info.skipped == ("a/bomb.png",)


def test_empty_class_and_class_without_a_readable_image(make_folder):
    root = make_folder({"a": 100, "b": 1})
    (root / "c").mkdir()
    with pytest.raises(DataError, match="class 'c' has no images"):
        load_data(root)
    (root / "c").rmdir()
    (root / "b" / "0.png").write_bytes(b"x")
    with pytest.raises(DataError, match=r"no readable training images \(b\)"):
        load_data(root)


def test_test_class_missing_from_train(make_folder):
    root = make_folder({"a": 2}, "train")
    make_folder({"a": 1, "zebra": 1}, "test")
    with pytest.raises(DataError, match="class 'zebra'"):
        load_data(root)


def test_folder_without_classes(tmp_path):
    Image.new("RGB", (8, 8)).save(tmp_path / "a.png")
    with pytest.raises(DataError, match="no class folders"):
        load_data(tmp_path)


def test_class_names_with_control_characters(make_folder):
    root = make_folder({"a": 2, "b\x1b[2J": 2})
    with pytest.raises(DataError, match="control characters"):
        load_data(root)


def test_links_to_files_are_followed_and_others_are_not(make_folder, tmp_path):
    root = make_folder({"a": 30})
    Image.new("RGB", (8, 8)).save(tmp_path / "outside.png")
    (root / "a" / "link.png").symlink_to(tmp_path / "outside.png")
    (root / "a" / "loop").symlink_to(root)
    (root / "a" / "broken.png").symlink_to(tmp_path / "nowhere.png")
    os.mkfifo(root / "a" / "pipe.png")
    splits = load_data(root)
    assert splits.test is not None
    assert len(splits.train) + len(splits.test) == 31
    assert splits.info.skipped == ("a/broken.png",)


def test_progress_reaches_the_total(make_folder):
    calls = []
    root = make_folder({"a": 70}, "train", height=2, width=2)
    make_folder({"a": 70}, "test", height=2, width=2)
    load_data(root, progress=lambda done, total: calls.append((done, total)))
    assert calls == [(64, 140), (70, 140), (134, 140), (140, 140)]
