"""What DD-Ranking's metrics take: an image tensor with labels, and class folders.

By its documentation (version 0.2.0) ``compute_metrics`` takes ``image_tensor`` of the shape
``[classes * ipc, C, H, W]`` with ``hard_labels`` or ``soft_labels``, or ``image_path``, read by
torchvision's ``ImageFolder``. The tensor meets test images that are normalised; without labels it
is taken as sorted by class.
"""

from dataclasses import replace
from pathlib import Path

import torch

from distilset.data.normalise import Transform
from distilset.exchange.datacard import write_card
from distilset.exchange.imagefolder import check_drawable, write_pictures
from distilset.store import DistilledSet

_IMAGENET = ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
_CIFAR10 = ((0.4914, 0.4822, 0.4465), (0.2023, 0.1994, 0.2010))
STATISTICS = {
    "cifar10": _CIFAR10,
    "cifar100": _CIFAR10,  # so its documentation says, and not CIFAR-100's own
    "tiny-imagenet": _IMAGENET,
    "imagenet-1k": _IMAGENET,
    "imagenette": _IMAGENET,
    "imagewoof": _IMAGENET,
    "imagesquawk": _IMAGENET,
}
"""The mean and std by which DD-Ranking normalises test images; others keep their own."""

LOAD = """\
import torch
images = torch.load("{path}/images.pt", weights_only=True)
labels = torch.load("{path}/labels.pt", weights_only=True)
# metric.compute_metrics(image_tensor=images, {keyword}=labels), with use_zca off
# or, 8-bit: metric.compute_metrics(image_path="{path}/images", {keyword}=labels)
"""


def write_ddranking(folder: Path, distilled: DistilledSet) -> None:
    """Write ``images.pt`` (float32, normalised), ``labels.pt``, ``images/00000/00000.png``, a card.

    Sorted by class. Images of a run that whitens are normalised and not whitened: DD-Ranking's own
    whitening is of pixels that were not normalised, another space.

    Raises:
        DataError: images of other than 1 or 3 channels.
    """
    check_drawable(distilled)
    order = torch.argsort(distilled.hard_labels, stable=True)
    ordered = replace(distilled, pixels=distilled.pixels[order], labels=distilled.labels[order])
    info = distilled.card.dataset
    mean, std = STATISTICS.get(info.like or info.name, (info.mean, info.std))
    torch.save(Transform(mean, std).apply(ordered.pixels.cpu()), folder / "images.pt")
    torch.save(ordered.labels.cpu().clone(), folder / "labels.pt")
    names = [f"{label:05}" for label in range(len(distilled.classes))]
    write_pictures(folder / "images", ordered, names)
    keyword = "soft_labels" if distilled.labels.is_floating_point() else "hard_labels"
    write_card(folder, ordered, LOAD.replace("{keyword}", keyword), normalised=(mean, std))
