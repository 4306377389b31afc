from dataclasses import replace

import numpy as np
import pytest
import torch

from distilset.errors import ConfigError
from distilset.evaluation.variants import Variant, variants
from distilset.exchange import export_set
from distilset.training import PROTOCOLS
from tests.small import distil


@pytest.fixture(scope="module")
def distilled():
    made = distil(steps=2)
    soft = torch.tensor([[0.1, 0.7, 0.2], [0.5, 0.3, 0.2], [0.2, 0.2, 0.6]])
    return replace(made, pixels=made.pixels * 1.5 - 0.2, labels=soft)


def test_words_and_their_variants():
    assert variants("protocol", "own", "float") == [Variant()]
    both = variants("both", "both", "both")
    assert len(both) == 8
    assert both[0] == Variant(True, "own", "float")
    assert both[-1] == Variant(False, "hard", "png")


@pytest.mark.parametrize(
    "words", [("of", "own", "float"), ("on", "soft", "float"), ("on", "own", 8)]
)
def test_other_words_are_refused(words):
    with pytest.raises(ConfigError, match="unknown"):
        variants(*map(str, words))


def test_hard_labels_are_the_most_probable_classes(distilled):
    images, labels = Variant(labels="hard").tensors(distilled)
    assert labels.tolist() == [1, 0, 2]
    assert torch.equal(images, distilled.tensors()[0])
    assert torch.equal(Variant().tensors(distilled)[1], distilled.labels)


def test_png_is_what_the_exported_pictures_give(distilled, tmp_path):
    from PIL import Image

    hard = replace(distilled, labels=torch.arange(3))
    export_set(hard, "imagefolder", tmp_path / "out")
    paths = sorted((tmp_path / "out").rglob("*.png"))
    images, _ = Variant(pixels="png").tensors(hard)
    assert len(paths) == len(images) == 3
    for path, image in zip(paths, images, strict=True):
        pixels = torch.from_numpy(np.array(Image.open(path))).permute(2, 0, 1)
        expected = hard.transform.apply(pixels[None].float() / 255)[0]
        torch.testing.assert_close(image, expected, atol=1e-5, rtol=1e-5)
    assert not torch.equal(images, hard.tensors()[0])


def test_variants_that_come_to_the_same_are_equal(distilled):
    dm, hard = PROTOCOLS["dm"], replace(distilled, labels=torch.arange(3))
    assert Variant().settled(hard, dm) == Variant(True, "hard").settled(hard, dm)
    assert Variant().settled(distilled, dm) != Variant(True, "hard").settled(distilled, dm)
    assert Variant(augment=False).protocol(dm) == replace(dm, augment=False)
