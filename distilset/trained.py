"""A network trained on a distilled set, as a file that can be used without it."""

import json
import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from os import PathLike
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float, Float32, UInt8
from safetensors.torch import save
from torch import Tensor, nn

from distilset.augment import AugmentConfig
from distilset.data.labels import check_names
from distilset.data.normalise import Transform
from distilset.data.zca import Zca
from distilset.errors import ConfigError, DataError
from distilset.files import write_bytes
from distilset.models import NetworkConfig, build_network, initialise, network_config
from distilset.rng import Rng
from distilset.store import DistilledSet
from distilset.training.protocols import Protocol
from distilset.training.step import TrainSettings, settle
from distilset.training.trainer import Progress, Trainer
from distilset.types import ImageSpec
from distilset.untrusted import parse_json, read_tensors

MARK = "distilset network, version 1"
MOST_SIDE = 4096
"""Pixels a side, as for data."""


@dataclass(frozen=True, eq=False)
class TrainedNetwork:
    """A network in evaluation mode, on the CPU, with what its images and scores mean.

    ``transform`` brings pixels to what the network sees; ``facts`` say what it was trained on and
    how, and are saved with it.

    Example:
        >>> trained = load_network("model.safetensors")     # doctest: +SKIP
        >>> trained.classes[trained.scores(images)[0].argmax()]     # doctest: +SKIP
    """

    network: nn.Module
    transform: Transform
    classes: tuple[str, ...]
    facts: Mapping[str, Any] = field(repr=False)

    @torch.no_grad()
    def scores(
        self, images: UInt8[Tensor, "n c h w"] | Float[Tensor, "n c h w"]
    ) -> Float32[Tensor, "n classes"]:
        """Return class scores of bytes, or of floats that are pixels in [0, 1]."""
        return self.network(self.transform.apply(images)).float()

    def save(self, path: str | PathLike[str], *, overwrite: bool = False) -> Path:
        """Write weights, transform and facts to one safetensors file.

        Raises:
            DataError: the file is there already and ``overwrite`` is not given.
        """
        path = Path(path)
        check_free(path, overwrite=overwrite)
        weights = self.network.state_dict()
        tensors = {f"network.{name}": tensor for name, tensor in weights.items()}
        if self.transform.zca is not None:
            tensors |= {f"zca.{name}": tensor for name, tensor in vars(self.transform.zca).items()}
        plain = {name: tensor.cpu().contiguous() for name, tensor in tensors.items()}
        content = save(plain, {"distilset": json.dumps(dict(self.facts))})
        write_bytes(path, content)
        return path


def check_free(path: Path, *, overwrite: bool) -> None:
    """Refuse a path that may not be written to.

    Raises:
        DataError: it is a folder, lies in none, or is there and may not be replaced.
    """
    if path.is_dir() or not path.parent.is_dir():
        raise DataError(f"{path} is to be a file in a folder that exists; choose another path")
    if path.exists() and not overwrite:
        raise DataError(f"{path} is there already; choose another, or replace it with --overwrite")


def fit_network(
    distilled: DistilledSet,
    network: NetworkConfig,
    protocol: Protocol,
    *,
    seed: int = 0,
    settings: TrainSettings | None = None,
    progress: Progress | None = None,
) -> TrainedNetwork:
    """Train one fresh network on a set: the one that evaluation with this seed scores first.

    Raises:
        DataError: the training diverged.
    """
    images, labels = distilled.tensors()
    n, rng = len(images), Rng(seed).child("trial", 0)
    passes = protocol.total_updates(n) * min(n, protocol.batch)
    settings, _ = settle(settings or TrainSettings(), passes, distilled.spec)
    module = build_network(network, distilled.spec, len(distilled.classes))
    trainer = Trainer(module, settings)
    initialise(trainer.network, rng, "weights")
    trainer.train(images, labels, protocol, rng, _operations(distilled, protocol), progress)
    # In the usual layout, as it will be loaded: channels-last rounds otherwise.
    module = trainer.network.cpu().to(memory_format=torch.contiguous_format).eval()  # type: ignore[call-overload]
    if not all(tensor.isfinite().all() for tensor in module.state_dict().values()):
        raise DataError("the training diverged: weights became infinite or not a number")
    facts = _facts(distilled, network, protocol, seed, settings)
    return TrainedNetwork(module, distilled.transform.to("cpu"), distilled.classes, facts)


def _operations(distilled: DistilledSet, protocol: Protocol) -> AugmentConfig | None:
    """Return DSA as the protocol and the data want it."""
    if not protocol.augment:
        return None
    chosen = AugmentConfig()
    return chosen if distilled.card.dataset.mirror else chosen.without_flip()


def _facts(
    distilled: DistilledSet,
    network: NetworkConfig,
    protocol: Protocol,
    seed: int,
    settings: TrainSettings,
) -> dict[str, Any]:
    card, transform = distilled.card, distilled.transform
    return {
        "format": MARK,
        "network": asdict(network),  # type: ignore[call-overload]
        "image": distilled.spec.shape,
        "classes": distilled.classes,
        "mean": transform.mean,
        "std": transform.std,
        "zca": transform.zca is not None,
        "protocol": asdict(protocol),
        "seed": seed,
        "device": settings.device,
        "precision": settings.precision,
        "dataset": card.dataset.name,
        "method": card.method,
        "ipc": card.ipc,
        "factor": card.factor,
        "images": len(distilled),
        "versions": card.versions,
    }


def load_network(path: str | PathLike[str], network: nn.Module | None = None) -> TrainedNetwork:
    """Read what `TrainedNetwork.save` wrote; needs neither the distilled set nor the data.

    ``network`` takes the weights instead of a module that is built by name: a network of the
    user's own has to be given, for code that only a file names is not imported.

    Raises:
        DataError: a file that is missing, damaged, or no network of ours.
        ConfigError: a network of the user's own that was not given, or does not fit.
    """
    path = Path(path)
    facts, tensors = _read(path)
    try:
        spec, classes = _spec(facts["image"]), tuple(facts["classes"])
        check_names(classes)
        transform = _transform(facts, spec, _part(tensors, "zca."))
        weights = _part(tensors, "network.")
        if network is None:
            network = _module(path, facts["network"], spec, len(classes), weights)
        network.load_state_dict(weights)
    except (DataError, LookupError, TypeError, ValueError, ArithmeticError, RuntimeError) as error:
        reason = (str(error).splitlines() or [""])[0]
        raise DataError(f"{path} does not hold what its facts say: {reason}") from None
    return TrainedNetwork(network.eval(), transform, classes, facts)


def _spec(shape: Any) -> ImageSpec:
    if len(shape) != 3 or not all(type(n) is int and 1 <= n <= MOST_SIDE for n in shape):
        raise ValueError(f"images of the shape {shape}")
    return ImageSpec(*shape)


def _transform(
    facts: Mapping[str, Any], spec: ImageSpec, tensors: Mapping[str, Tensor]
) -> Transform:
    mean, std = (tuple(float(value) for value in facts[key]) for key in ("mean", "std"))
    if not len(mean) == len(std) == spec.channels or min(std) <= 0:
        raise ValueError(f"a mean {mean} and std {std} for images of {spec}")
    if not facts["zca"]:
        return Transform(mean, std)
    size = math.prod(spec.shape)
    found = {name: tuple(tensor.shape) for name, tensor in tensors.items()}
    floats = all(tensor.dtype == torch.float32 for tensor in tensors.values())
    if found != {"mean": (size,), "matrix": (size, size), "inverse": (size, size)} or not floats:
        raise ValueError(f"a whitening of {found} for images of {spec}")
    return Transform(mean, std, Zca(**tensors))


def _module(
    path: Path, table: Mapping[str, Any], spec: ImageSpec, classes: int, weights: Mapping[str, Any]
) -> nn.Module:
    """Build the network that the facts name; first without memory, to see that the weights fit."""
    name = str(table["name"])
    if ":" in name:
        raise ConfigError(
            f"{path} has weights of {name!r}, and code that only a file names is not imported; "
            "build the network and give it: load_network(path, network=...)"
        )
    config = network_config(table)
    with torch.device("meta"):
        shell = build_network(config, spec, classes).state_dict()
    claimed = {key: tuple(tensor.shape) for key, tensor in shell.items()}
    if claimed != {key: tuple(tensor.shape) for key, tensor in weights.items()}:
        raise ValueError(f"the weights are not those of {config}")
    return build_network(config, spec, classes)


def _part(tensors: Mapping[str, Tensor], prefix: str) -> dict[str, Tensor]:
    return {k.removeprefix(prefix): v for k, v in tensors.items() if k.startswith(prefix)}


def _read(path: Path) -> tuple[dict[str, Any], dict[str, Tensor]]:
    if not path.is_file():
        raise DataError(f"there is no file {path}; give one that distilset train has written")
    try:
        tensors, text = read_tensors(path)
        facts = parse_json(text.get("distilset", "null"))
    except ValueError as error:
        raise DataError(f"{path} is damaged: {error}") from None
    if not isinstance(facts, dict) or facts.get("format") != MARK:
        raise DataError(f"{path} is no network that distilset train has written")
    return facts, tensors
