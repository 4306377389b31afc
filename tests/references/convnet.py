"""ConvNet and attention in float64 NumPy, from the formulas alone, one image at a time."""

import numpy as np


def convolve(image, weight, bias):
    """3x3 convolution with zero padding: [C, H, W] -> [K, H, W]."""
    _, height, width = image.shape
    padded = np.pad(image, ((0, 0), (1, 1), (1, 1)))
    out = np.zeros((len(weight), height, width))
    for i in range(3):
        for j in range(3):
            window = padded[:, i : i + height, j : j + width]
            out += np.einsum("kc,chw->khw", weight[:, :, i, j], window)
    return out + bias[:, None, None]


def instance_norm(maps, gain, bias, eps=1e-5):
    """Each channel to mean 0 and variance 1 over its own positions."""
    mean = maps.mean(axis=(1, 2), keepdims=True)
    variance = ((maps - mean) ** 2).mean(axis=(1, 2), keepdims=True)
    return gain[:, None, None] * (maps - mean) / np.sqrt(variance + eps) + bias[:, None, None]


def average_pool(maps):
    """Means of 2x2 blocks."""
    channels, height, width = maps.shape
    return maps.reshape(channels, height // 2, 2, width // 2, 2).mean(axis=(2, 4))


def features(image, stages):
    """Maps after every ReLU, and the flattened last features; pooling while it leaves 2x2."""
    maps = []
    for weight, bias, gain, shift in stages:
        activation = np.maximum(instance_norm(convolve(image, weight, bias), gain, shift), 0)
        maps.append(activation)
        shrinks = min(activation.shape[1:]) // 2 >= 2
        image = average_pool(activation) if shrinks else activation
    return maps, image.reshape(-1)


def spatial(maps, power):
    """z = sum over channels of |f|^p, flattened, over its norm."""
    z = np.zeros(maps.shape[1] * maps.shape[2])
    for channel in maps:
        z += np.abs(channel).reshape(-1) ** power
    return z / np.sqrt((z**2).sum())


def channel(maps, power):
    """z = sum over positions of |f|^p, over its norm."""
    z = np.array([(np.abs(one) ** power).sum() for one in maps])
    return z / np.sqrt((z**2).sum())


def characteristic(last, frequencies):
    """Cosines and sines of unit features at every frequency (columns), one frequency at a time."""
    unit = last / np.sqrt((last**2).sum())
    phases = [(unit * one).sum() for one in frequencies.T]
    values = [np.cos(phase) for phase in phases] + [np.sin(phase) for phase in phases]
    return np.array(values) / np.sqrt(len(phases))


def mean_matching(real, synthetic, vector):
    """Sum over classes of the squared distance of class means; images as lists, class by class."""
    total = 0.0
    for ours, theirs in zip(real, synthetic, strict=True):
        first = np.mean([vector(image) for image in ours], axis=0)
        second = np.mean([vector(image) for image in theirs], axis=0)
        total += ((first - second) ** 2).sum()
    return total
