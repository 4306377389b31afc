import numpy as np
import torch
from PIL import Image

import distilset
from distilset.exchange.imagefolder import png


def test_class_folders_hold_numbered_pngs(make, tmp_path):
    made = make(2, classes=("ant", "bee", "cat"))
    distilset.export_set(made, "imagefolder", tmp_path / "x")
    files = sorted(p.relative_to(tmp_path / "x").as_posix() for p in tmp_path.rglob("*.png"))
    assert files == [f"{name}/0000{i}.png" for name in ("ant", "bee", "cat") for i in (0, 1)]
    with Image.open(tmp_path / "x" / "bee" / "00001.png") as picture:
        shown = np.asarray(picture)
    expected = made.pixels[3].clamp(0, 1).mul(255).round().byte().permute(1, 2, 0)
    assert np.array_equal(shown, expected.numpy())


def test_grey_images_are_grey_files(tmp_path):
    (tmp_path / "x.png").write_bytes(png(torch.arange(12).byte().reshape(1, 3, 4)))
    with Image.open(tmp_path / "x.png") as picture:
        assert (picture.mode, picture.size) == ("L", (4, 3))
