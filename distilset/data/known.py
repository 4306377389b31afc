"""The data sets known by name: their place on the Hugging Face hub and published statistics."""

from dataclasses import dataclass, replace


@dataclass(frozen=True)
class KnownDataset:
    """A data set with its hub address, columns, splits and published statistics.

    ``mean`` and ``std`` are per channel of pixels in [0, 1]. ``resolution`` is the side of the
    square that images are brought to unless the caller names another (28-pixel images are padded
    to 32 afterwards). ``class_subset`` keeps only these classes of the hub's data set, in this
    order.
    """

    name: str
    hub_id: str
    config: str | None
    image_column: str
    label_column: str
    train_split: str
    test_split: str
    resolution: int
    mean: tuple[float, ...]
    std: tuple[float, ...]
    mirror: bool = True
    class_subset: tuple[int, ...] | None = None


_IMAGENET_MEAN = (0.485, 0.456, 0.406)
_IMAGENET_STD = (0.229, 0.224, 0.225)

_MNIST = KnownDataset(
    "mnist", "ylecun/mnist", None, "image", "label", "train", "test",
    28, (0.1307,), (0.3081,), mirror=False,
)  # fmt: skip
_FASHION = KnownDataset(
    "fashion-mnist", "zalando-datasets/fashion_mnist", None, "image", "label", "train", "test",
    28, (0.2861,), (0.3530,), mirror=False,
)  # fmt: skip
_SVHN = KnownDataset(
    "svhn", "ufldl-stanford/svhn", "cropped_digits", "image", "label", "train", "test",
    32, (0.4377, 0.4438, 0.4728), (0.1980, 0.2010, 0.1970), mirror=False,
)  # fmt: skip
_CIFAR10 = KnownDataset(
    "cifar10", "uoft-cs/cifar10", None, "img", "label", "train", "test",
    32, (0.4914, 0.4822, 0.4465), (0.2023, 0.1994, 0.2010),
)  # fmt: skip
_CIFAR100 = KnownDataset(
    "cifar100", "uoft-cs/cifar100", None, "img", "fine_label", "train", "test",
    32, (0.5071, 0.4866, 0.4409), (0.2673, 0.2564, 0.2762),
)  # fmt: skip
_TINY = KnownDataset(
    "tiny-imagenet", "zh-plus/tiny-imagenet", None, "image", "label", "train", "valid",
    64, _IMAGENET_MEAN, _IMAGENET_STD,
)  # fmt: skip
_IMAGENET = KnownDataset(
    "imagenet-1k", "ILSVRC/imagenet-1k", None, "image", "label", "train", "validation",
    64, _IMAGENET_MEAN, _IMAGENET_STD,
)  # fmt: skip


def _subset(name: str, *classes: int) -> KnownDataset:
    return replace(_IMAGENET, name=name, resolution=128, class_subset=classes)


_SETS = (
    _MNIST,
    _FASHION,
    _SVHN,
    _CIFAR10,
    _CIFAR100,
    _TINY,
    _IMAGENET,
    _subset("imagenette", 0, 217, 482, 491, 497, 566, 569, 571, 574, 701),
    _subset("imagewoof", 193, 182, 258, 162, 155, 167, 159, 273, 207, 229),
    _subset("imagesquawk", 84, 130, 88, 144, 145, 22, 96, 9, 100, 89),
)

KNOWN: dict[str, KnownDataset] = {known.name: known for known in _SETS}
