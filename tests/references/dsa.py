"""DSA's operations pixel by pixel: float64, one image ``[channels, height, width]`` at a time.

Written from the formulas in the paper's notes, with no code in common with `distilset.augment`.
``u`` holds the uniform numbers of one image.
"""

import math

import numpy as np


def color(x, u, config):
    x = x + (u[0] - 0.5) * config.brightness
    gray = x.mean(axis=0, keepdims=True)
    x = (x - gray) * config.saturation * u[1] + gray
    mean = x.mean()
    return (x - mean) * (u[2] + config.contrast) + mean


def crop(x, u, config):
    _, height, width = x.shape
    reach_y, reach_x = int(config.crop * height + 0.5), int(config.crop * width + 0.5)
    dy = math.floor(u[0] * (2 * reach_y + 1)) - reach_y
    dx = math.floor(u[1] * (2 * reach_x + 1)) - reach_x
    out = np.zeros_like(x)
    for i in range(height):
        for j in range(width):
            if 0 <= i + dy < height and 0 <= j + dx < width:
                out[:, i, j] = x[:, i + dy, j + dx]
    return out


def cutout(x, u, config):
    _, height, width = x.shape
    tall, wide = int(config.cutout * height + 0.5), int(config.cutout * width + 0.5)
    centre_y = math.floor(u[0] * (height + (1 if tall % 2 == 0 else 0)))
    centre_x = math.floor(u[1] * (width + (1 if wide % 2 == 0 else 0)))
    out = x.copy()
    for i in range(centre_y - tall // 2, centre_y - tall // 2 + tall):
        for j in range(centre_x - wide // 2, centre_x - wide // 2 + wide):
            if 0 <= i < height and 0 <= j < width:
                out[:, i, j] = 0
    return out


def flip(x, u, config):
    return x[:, :, ::-1].copy() if u[0] < config.flip else x.copy()


def scale(x, u, config):
    low, high = 1 / config.scale, config.scale
    factor_x, factor_y = low + u[0] * (high - low), low + u[1] * (high - low)
    return _resample(x, lambda dx, dy: (factor_x * dx, factor_y * dy))


def rotate(x, u, config):
    angle = math.radians((2 * u[0] - 1) * config.rotate)
    cos, sin = math.cos(angle), math.sin(angle)
    return _resample(x, lambda dx, dy: (cos * dx - sin * dy, sin * dx + cos * dy))


def _resample(x, move):
    """Take each pixel from where ``move`` sends its offset (in pixels) from the image's centre."""
    _, height, width = x.shape
    middle_y, middle_x = (height - 1) / 2, (width - 1) / 2
    out = np.zeros_like(x)
    for i in range(height):
        for j in range(width):
            dx, dy = move(j - middle_x, i - middle_y)
            out[:, i, j] = _bilinear(x, middle_y + dy, middle_x + dx)
    return out


def _bilinear(x, y_at, x_at):
    """Weigh the four pixels around a point; those outside the image count as zero."""
    _, height, width = x.shape
    top, left = math.floor(y_at), math.floor(x_at)
    total = np.zeros(len(x))
    for i in (top, top + 1):
        for j in (left, left + 1):
            if 0 <= i < height and 0 <= j < width:
                total += x[:, i, j] * (1 - abs(y_at - i)) * (1 - abs(x_at - j))
    return total


OPERATIONS = {
    "color": color,
    "crop": crop,
    "cutout": cutout,
    "flip": flip,
    "scale": scale,
    "rotate": rotate,
}
