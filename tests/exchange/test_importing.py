import pytest
import torch

import distilset
from distilset.data.normalise import Transform, fit_transform
from distilset.errors import ConfigError, DataError
from distilset.exchange.importing import read_set
from distilset.formation import decode
from distilset.testing import drawn_images
from tests.small import COUNTS, splits


def saved(path, images, labels):
    torch.save([images, labels], path)
    return path


def labels_of(ipc):
    return torch.arange(3).repeat_interleave(ipc)


@pytest.mark.parametrize("space", ["pixels", "normalised", "whitened"])
@pytest.mark.parametrize("stated", [False, True])
def test_values_of_every_space_become_the_same_pixels(tmp_path, train, space, stated):
    rows = [0, 1, 6, 7, 12, 13]
    pixels, whitened = train.images[rows].float() / 255, fit_transform(train, zca=True)
    plain = Transform(train.info.mean, train.info.std)
    values = {
        "pixels": pixels,
        "normalised": plain.apply(pixels),
        "whitened": whitened.apply(pixels),
    }
    file = saved(tmp_path / "x.pt", values[space], labels_of(2))
    asked = {"space": space} if stated else {}
    found = read_set(file, train, zca=space == "whitened", **asked)
    assert found.space == space
    assert torch.allclose(found.pixels, pixels, atol=1e-4)
    assert found.ipc == 2
    said = {"pixels": "0 black", "normalised": "mean and std", "whitened": "ZCA"}[space]
    assert said in found.notes[-1]


def test_sets_are_sorted(tmp_path, train):
    images = torch.rand(6, 3, 8, 8)
    found = read_set(saved(tmp_path / "x.pt", images, torch.tensor([2, 1, 0, 0, 1, 2])), train)
    assert found.labels.tolist() == [0, 0, 1, 1, 2, 2]
    assert torch.equal(found.pixels, images[[2, 3, 1, 4, 0, 5]])


@pytest.mark.parametrize(
    ("images", "labels", "flags", "part"),
    [
        (torch.rand(3, 1, 8, 8), labels_of(1), {}, "1x8x8 do not fit"),
        (torch.rand(3, 3, 9, 8), labels_of(1), {}, "--resolution"),
        (torch.rand(3, 3, 8, 8), labels_of(2), {}, "as many labels"),
        (torch.rand(4, 3, 8, 8), torch.arange(4), {}, r"0\.\.2 for the 3 classes"),
        (torch.rand(2, 3, 8, 8), torch.arange(2), {}, "equally many"),
        (torch.rand(3, 3, 8, 8), labels_of(1), {"factor": 3}, "does not divide"),
        (torch.rand(3, 3, 8, 8), labels_of(1), {"factor": 0}, "1 or more"),
        (torch.rand(3, 3, 8, 8), labels_of(1), {"softmax": True}, "for scores"),
        (torch.rand(3, 3, 8, 8), labels_of(1), {"space": "whitened"}, "--zca"),
        (torch.rand(3, 3, 8, 8) * 255, labels_of(1), {}, "could be"),
        ((torch.rand(3, 3, 8, 8) * 255).byte(), labels_of(1), {"space": "normalised"}, "holds pix"),
    ],
)
def test_what_does_not_fit(tmp_path, train, images, labels, flags, part):
    with pytest.raises((DataError, ConfigError), match=part):
        read_set(saved(tmp_path / "x.pt", images, labels), train, **flags)


def test_small_digits_are_padded_as_the_data_are(tmp_path):
    train = drawn_images((1, 32, 32), COUNTS)
    file = saved(tmp_path / "x.pt", torch.rand(3, 1, 28, 28) + 0.01, labels_of(1))
    found = read_set(file, train, space="pixels")
    assert found.pixels.shape == (3, 1, 32, 32)
    assert found.pixels[:, :, 2:30, 2:30].min() > 0
    assert found.pixels.count_nonzero() == 3 * 28 * 28
    with pytest.raises(DataError, match="28x28 do not fit whitened"):
        read_set(file, train, space="whitened", zca=True)


@pytest.mark.parametrize("zca", [False, True])
def test_images_that_hold_several_are_kept_whole_and_cut_to_train_on(tmp_path, train, zca):
    values = torch.randn(6, 3, 8, 8)
    file = saved(tmp_path / "x.pt", values, labels_of(2))
    made = distilset.import_set(file, train, zca=zca, factor=2)
    assert (made.card.factor, made.card.ipc, len(made.pixels), len(made)) == (2, 2, 6, 24)
    assert "(factor 2)" in made.card.notes[-1]
    images, labels = made.tensors()
    assert torch.allclose(images, decode(values, 2), atol=1e-4)
    assert labels.tolist() == labels_of(8).tolist()


def test_padded_images_that_hold_several_are_refused(tmp_path):
    file = saved(tmp_path / "x.pt", torch.rand(3, 1, 28, 28) + 0.01, labels_of(1))
    with pytest.raises(DataError, match="without a factor"):
        read_set(file, drawn_images((1, 32, 32), COUNTS), space="pixels", factor=2)


def test_soft_labels_are_kept_judged_and_saved(tmp_path, train):
    soft = torch.eye(3).repeat_interleave(2, 0) * 0.7 + 0.1
    made = distilset.import_set(saved(tmp_path / "x.pt", torch.rand(6, 3, 8, 8), soft), train)
    made.save(tmp_path / "run")
    loaded = distilset.DistilledSet.load(tmp_path / "run")
    assert torch.equal(loaded.labels, soft)
    assert loaded.hard_labels.tolist() == labels_of(2).tolist()
    score = distilset.evaluate(
        loaded, splits().test, network="convnet:width=8,depth=2", trials=1, epochs=1, device="cpu"
    )
    assert score.labels == "soft"


def test_an_imported_set_says_where_it_came_from(tmp_path, train):
    file = saved(tmp_path / "x.pt", torch.rand(6, 3, 8, 8), labels_of(2))
    made = distilset.import_set(file, train, zca=True, method="IDC")
    made.save(tmp_path / "run")
    card = distilset.DistilledSet.load(tmp_path / "run").card
    assert (card.method, card.ipc, card.kind) == ("IDC", 2, "distilled")
    assert card.zca is not None
    assert card.dataset.fingerprint
    assert any("a pair of images and labels" in note for note in card.notes)


def test_only_the_training_part_will_do(tmp_path):
    file = saved(tmp_path / "x.pt", torch.rand(3, 3, 8, 8), labels_of(1))
    with pytest.raises(ConfigError, match="test split"):
        distilset.import_set(file, splits().test)
