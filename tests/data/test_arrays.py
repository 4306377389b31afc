import numpy as np
import pytest
import torch
from PIL import Image
from torch.utils.data import Subset, TensorDataset

from distilset.data import load_data
from distilset.data.arrays import resize, to_bytes
from distilset.errors import ConfigError, DataError

IMAGES = np.random.default_rng(0).integers(0, 256, (10, 6, 5, 3), dtype=np.uint8)
LABELS = np.array([1, 0] * 5)
IN_ORDER = np.concatenate([IMAGES[1::2], IMAGES[0::2]]).transpose(0, 3, 1, 2)


def save(path, **arrays):
    np.savez(path / "set.npz", **arrays)
    return path / "set.npz"


@pytest.mark.parametrize(
    "images",
    [
        IMAGES,
        IMAGES.transpose(0, 3, 1, 2),
        IMAGES.astype(np.float32) / 255,
        IMAGES.astype(np.float64) / 255,
        IMAGES.astype(np.uint16) * 257,
        IMAGES.astype(np.int64),
    ],
    ids=["nhwc", "nchw", "float32", "float64", "uint16", "int64"],
)
def test_npz_layouts_and_types(tmp_path, images):
    train = load_data(
        save(tmp_path, x_train=images, y_train=LABELS, x_test=images, y_test=LABELS)
    ).train
    assert (train.images.numpy() == IN_ORDER).all()
    assert train.classes == ("0", "1")


@pytest.mark.parametrize("keys", ["train_{}", "{}_train"])
def test_npz_keys(tmp_path, keys):
    arrays = {keys.format("images"): IMAGES, keys.format("labels"): LABELS[:, None]}
    splits = load_data(save(tmp_path, **arrays, val_images=IMAGES[:4], val_labels=LABELS[:4]))
    assert splits.test is not None
    assert splits.info.test_part == "official"
    assert len(splits.test) == 4
    assert splits.info.name == "set"


def test_npz_grey_text_labels_and_class_names(tmp_path):
    text = np.array(["b10", "b9"] * 5)
    splits = load_data(save(tmp_path, images=IMAGES[..., 0], labels=text))
    assert splits.train.classes == ("b9", "b10")
    assert splits.train.spec.shape == (1, 6, 5)
    assert splits.info.test_part == "carved"
    named = load_data(save(tmp_path, images=IMAGES, labels=LABELS, classes=["x", "y"]))
    assert named.train.classes == ("x", "y")
    assert load_data(
        save(tmp_path, images=IMAGES, labels=LABELS), resolution=4
    ).train.spec.shape == (3, 4, 4)


@pytest.mark.parametrize(
    ("arrays", "match"),
    [
        ({"a": IMAGES}, "expected images and labels"),
        ({"images": IMAGES, "labels": LABELS[:4]}, "as many labels"),
        ({"images": IMAGES / 100, "labels": LABELS}, r"must lie in 0..1; got 0.*normalisation"),
        ({"images": IMAGES / np.nan, "labels": LABELS}, "must lie in"),
        ({"images": IMAGES.astype(int) - 1, "labels": LABELS}, r"must lie in 0..255"),
        ({"images": IMAGES[:, :, 0, 0], "labels": LABELS}, "NHW, NHWC or NCHW"),
        ({"images": IMAGES, "labels": LABELS / 2}, "whole numbers or text"),
        ({"images": IMAGES, "labels": LABELS + 1, "classes": ["x", "y"]}, r"must lie in 0\.\.1"),
        ({"images": IMAGES, "labels": LABELS, "classes": ["x", "y", "z"]}, r"\(z\)"),
        ({"images": IMAGES, "labels": LABELS, "classes": ["x", "x"]}, "two classes"),
        ({"images": IMAGES, "labels": np.array([{}] * 10)}, "without pickles"),
        (
            {"x_train": IMAGES, "y_train": LABELS, "x_test": IMAGES, "y_test": LABELS + 5},
            "'5' is not among the 2 classes",
        ),
    ],
)
def test_npz_that_is_unfit(tmp_path, arrays, match):
    with pytest.raises(DataError, match=match):
        load_data(save(tmp_path, **arrays))


def test_npz_that_is_damaged(tmp_path):
    path = save(tmp_path, images=IMAGES, labels=LABELS)
    path.write_bytes(path.read_bytes()[:-300])
    with pytest.raises(DataError, match="cannot be read"):
        load_data(path)


def test_scaling_of_bools_and_shapes_of_resize():
    assert to_bytes(np.array([[True, False]])).tolist() == [[255, 0]]
    images = torch.full((3, 2, 20, 10), 77, dtype=torch.uint8)
    assert (resize(images, (7, 7)) == 77).all()
    assert resize(images, (7, 7)).shape == (3, 2, 7, 7)


class Pictures:
    classes = ("zero", "one")

    def __init__(self, kind):
        self.kind = kind

    def __len__(self):
        return len(IMAGES)

    def __getitem__(self, i):
        return self.kind(IMAGES[i]), int(LABELS[i])


@pytest.mark.parametrize(
    "kind",
    [
        Image.fromarray,
        lambda image: image,
        lambda image: torch.from_numpy(image).permute(2, 0, 1),
        lambda image: torch.from_numpy(image).permute(2, 0, 1) / 255,
    ],
    ids=["pil", "array", "tensor", "float tensor"],
)
def test_torch_dataset(kind):
    splits = load_data((Pictures(kind), Subset(Pictures(kind), [0, 1, 2])))  # type: ignore
    assert splits.test is not None
    assert (splits.train.images.numpy() == IN_ORDER).all()
    assert splits.test.counts == (1, 2)
    assert splits.train.classes == ("zero", "one")
    assert splits.info.source.startswith("python:")


def test_torch_dataset_alone_is_carved_and_names_are_found_behind_a_subset():
    calls = []
    data = Subset(Pictures(Image.fromarray), list(range(10)))  # type: ignore
    splits = load_data(data, resolution=4, progress=lambda *a: calls.append(a))
    assert splits.info.test_part == "carved"
    assert splits.train.classes == ("zero", "one")
    assert splits.train.spec.shape == (3, 4, 4)
    assert calls == [(10, 10)]


def test_grey_pictures_give_one_channel():
    grey = Pictures(lambda image: Image.fromarray(image[..., 0]))
    assert load_data(grey).train.spec.channels == 1
    mixed = load_data((grey, Pictures(Image.fromarray)))
    assert mixed.train.spec.channels == 3


def test_tensor_dataset_of_hw_images():
    data = TensorDataset(torch.from_numpy(IMAGES[..., 0]), torch.from_numpy(LABELS))
    splits = load_data(data)
    assert splits.train.spec.shape == (1, 6, 5)
    assert splits.train.classes == ("0", "1")


@pytest.mark.parametrize(
    ("data", "match"),
    [
        (Pictures(lambda image: image / 255 - 0.5), "normalisation"),
        (Pictures(lambda image: "x"), "must be a PIL image"),
        (Pictures(lambda image: image[: int(image[0, 0, 0]) % 3 + 1]), "differ in shape"),
        (TensorDataset(torch.zeros(3, 1, 4, 4)), r"\(image, label\)"),
        (TensorDataset(torch.zeros(3, 1, 4, 4), torch.zeros(3, 10)), "needs one label"),
        (TensorDataset(torch.zeros(3, 1, 4, 4), torch.zeros(3)), "whole numbers or text"),
        (TensorDataset(torch.zeros(0, 1, 4, 4), torch.zeros(0)), "length above 0"),
        (TensorDataset(torch.zeros(3, 9, 4, 4), torch.zeros(3)), "1 to 4 channels"),
    ],
)
def test_torch_dataset_that_is_unfit(data, match):
    with pytest.raises(DataError, match=match):
        load_data(data)


def test_an_iterable_is_refused():
    with pytest.raises((ConfigError, DataError), match=r"length|data must be"):
        load_data(iter([1, 2]))
