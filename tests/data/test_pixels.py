import io

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from distilset.data.pixels import read_pixels, scale_16_bit

SQUARE = np.arange(64, dtype=np.uint8).reshape(8, 8) * 4


def encode(image, kind="PNG", **options) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def rgb(*planes) -> np.ndarray:
    return np.stack(planes, axis=-1)


def test_grey_and_one_bit_get_three_equal_channels():
    grey = read_pixels(encode(Image.fromarray(SQUARE)), None)
    assert (grey == rgb(SQUARE, SQUARE, SQUARE)).all()
    bits = Image.fromarray(255 * (SQUARE > 100).astype(np.uint8)).convert("1")
    assert (read_pixels(encode(bits), None)[..., 0] == 255 * (SQUARE > 100)).all()


def test_rgb_passes_through():
    pixels = rgb(SQUARE, SQUARE.T, 255 - SQUARE)
    assert (read_pixels(encode(Image.fromarray(pixels)), None) == pixels).all()


@pytest.mark.parametrize("mode", ["RGBA", "LA"])
def test_alpha_is_laid_on_white(mode):
    image = Image.fromarray(SQUARE).convert(mode)
    alpha = np.where(np.arange(64).reshape(8, 8) % 2, 255, 0).astype(np.uint8)
    image.putalpha(Image.fromarray(alpha))
    assert (read_pixels(encode(image), None)[..., 1] == np.where(alpha, SQUARE, 255)).all()


def test_half_transparent_black_on_white_is_mid_grey():
    image = Image.new("RGBA", (4, 4), (0, 0, 0, 128))
    assert abs(int(read_pixels(encode(image), None)[0, 0, 0]) - 127) <= 1


@pytest.mark.parametrize("kind", ["PNG", "GIF"])
def test_palette_with_and_without_transparency(kind):
    image = Image.new("P", (4, 4))
    image.putpalette([255, 0, 0, 0, 0, 255] + [0] * 762)
    image.putpixel((1, 0), 1)
    plain = read_pixels(encode(image, kind), None)
    assert plain[0, 0].tolist() == [255, 0, 0]
    assert plain[0, 1].tolist() == [0, 0, 255]
    clear = read_pixels(encode(image, kind, transparency=1), None)
    assert clear[0, 0].tolist() == [255, 0, 0]
    assert clear[0, 1].tolist() == [255, 255, 255]


def test_rgb_with_a_transparent_colour():
    image = Image.new("RGB", (4, 4), (1, 2, 3))
    image.putpixel((0, 0), (9, 9, 9))
    pixels = read_pixels(encode(image, transparency=(1, 2, 3)), None)
    assert pixels[0, 0].tolist() == [9, 9, 9]
    assert pixels[1, 1].tolist() == [255, 255, 255]


def test_cmyk_jpeg():
    image = Image.new("CMYK", (16, 16), (0, 255, 255, 0))
    red = read_pixels(encode(image, "JPEG", quality=95), None)[8, 8]
    assert red[0] > 245
    assert red[1:].max() < 10


def test_16_bit_is_scaled_and_not_truncated():
    values = np.array([[0, 128, 129, 256], [257, 300, 32896, 65535]], dtype=np.uint16)
    expected = np.rint(values / 257).astype(np.uint8)
    for kind in ("PNG", "TIFF"):
        assert (read_pixels(encode(Image.fromarray(values), kind), None)[..., 0] == expected).all()
    wide = Image.fromarray(values.astype(np.int32))
    assert (read_pixels(encode(wide, "TIFF"), None)[..., 2] == expected).all()


@given(st.integers(0, 65535))
def test_scale_16_bit_rounds_to_the_nearest(value):
    assert scale_16_bit(np.array([value], dtype=np.uint16))[0] == round(value * 255 / 65535)


def test_wide_integers_and_floats_out_of_range_are_refused():
    with pytest.raises(ValueError, match="16 bits"):
        read_pixels(encode(Image.fromarray(np.full((2, 2), 70000, np.int32)), "TIFF"), None)
    with pytest.raises(ValueError, match=r"\[0, 1\]"):
        read_pixels(encode(Image.fromarray(np.full((2, 2), 2, np.float32)), "TIFF"), None)
    half = Image.fromarray(np.full((2, 2), 0.5, np.float32))
    assert read_pixels(encode(half, "TIFF"), None)[0, 0, 0] == 128


@pytest.mark.parametrize(("kind", "orientation"), [("JPEG", 6), ("PNG", 6), ("PNG", 3)])
def test_exif_orientation_is_respected(kind, orientation):
    pixels = np.zeros((16, 32, 3), np.uint8)
    pixels[:, :16] = 255  # the left half is white
    exif = Image.Exif()
    exif[0x0112] = orientation
    read = read_pixels(encode(Image.fromarray(pixels), kind, exif=exif), None)
    if orientation == 6:  # stored turned by 90 degrees: left becomes top
        assert read.shape == (32, 16, 3)
        assert read[2, 8, 0] > 240
        assert read[30, 8, 0] < 15
    else:
        assert read[8, 30, 0] > 240


@given(st.integers(1, 60), st.integers(1, 60), st.integers(1, 24))
def test_resize_gives_the_square_asked_for_and_keeps_a_flat_colour(height, width, side):
    image = Image.new("RGB", (width, height), (10, 200, 90))
    pixels = read_pixels(encode(image), (side, side))
    assert pixels.shape == (side, side, 3)
    assert (pixels == [10, 200, 90]).all()


def test_resize_cuts_the_centre():
    pixels = np.zeros((10, 30, 3), np.uint8)
    pixels[:, 10:20] = 255
    assert (read_pixels(encode(Image.fromarray(pixels)), (10, 10)) == 255).all()


def test_large_jpeg_is_shrunk_close_to_its_mean():
    image = Image.fromarray(np.tile(SQUARE, (64, 64))).convert("RGB")
    small = read_pixels(encode(image, "JPEG", quality=95), (16, 16))
    assert small.shape == (16, 16, 3)
    assert abs(small.mean() - SQUARE.mean()) < 3


def test_decompression_bombs_are_errors_at_pillows_limit(monkeypatch):
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 63)
    with (
        pytest.warns(Image.DecompressionBombWarning),
        pytest.raises(Image.DecompressionBombError),
    ):
        read_pixels(encode(Image.fromarray(SQUARE)), None)


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "BMP", "GIF", "TIFF", "WEBP", "PPM", "JPEG2000"])
def test_formats(kind):
    image = Image.new("RGB", (16, 16), (200, 40, 120))
    assert np.abs(read_pixels(encode(image, kind), None) - [200.0, 40, 120]).max() < 12


def test_what_could_start_another_program_is_not_opened():
    with pytest.raises(OSError, match="cannot identify"):
        read_pixels(encode(Image.new("RGB", (4, 4)), "EPS"), None)
