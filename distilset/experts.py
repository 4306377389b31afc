"""Experts: networks trained on the real images for a while, in the place of untrained ones.

The papers match untrained networks. What separates the classes is seen better by networks that were
trained, and best by some at every stage of training (IDM, Zhao et al., CVPR 2023; DANCE, Zhang et
al., 2024). A run with experts trains a few once, keeps their weights at equally spaced moments, and
draws one of these states for every step. They lie in the cache, named by a hash of all that shapes
them, and serve every run that looks at the same data in the same way.
"""

import json
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from copy import deepcopy
from dataclasses import asdict
from hashlib import blake2b
from pathlib import Path
from typing import Any

import torch
from filelock import FileLock
from torch import Tensor, nn

from distilset.augment import AugmentConfig
from distilset.cache import cache_folder
from distilset.data.normalise import Transform
from distilset.data.zca import zca_digest
from distilset.errors import DataError
from distilset.files import write_bytes
from distilset.models import code_digest, initialise
from distilset.rng import Rng
from distilset.schooling import BATCH, ExpertsConfig
from distilset.training.protocols import Protocol
from distilset.training.step import TrainSettings, settle
from distilset.training.together import State, state_of
from distilset.training.trainer import Trainer
from distilset.types import ImageSet
from distilset.untrusted import open_tensors, telling_damage

VERSION = 1
WARMUP, CLIP = 0.1, 2.0
"""As the baseline ``whole`` has them, which trains every network that there is; the rate that
stands by default is its own, too."""

Report = Callable[[int, int], None]


class Experts:
    """The experts of one network, in a folder of the cache.

    Args:
        network: what is trained; only its build counts, and it is left as it is.
        train: the real images, all of them.
        settings: with what to compute; compiled where that pays.
        threads: CPU threads of the training, which shape its bits.
    """

    def __init__(
        self,
        config: ExpertsConfig,
        network: nn.Module,
        train: ImageSet,
        transform: Transform,
        augmentation: AugmentConfig,
        settings: TrainSettings,
        threads: int,
    ) -> None:
        self.config, self.augmentation = config, augmentation
        # by one expert's work: how many there are must not change what each of them is
        self.settings, _ = settle(settings, config.updates * BATCH, train.spec)
        self.values = sum(value.numel() for value in network.state_dict().values())
        self.key = {
            "version": VERSION,
            "train": train.digest,
            "mean": list(transform.mean),
            "std": list(transform.std),
            "zca": transform.zca is not None and zca_digest(transform.zca),
            "network": repr(network),
            "code": code_digest(network, train.spec, scores=True),
            "augmentation": asdict(augmentation),  # type: ignore[call-overload]
            "updates": config.updates,
            "snapshots": config.snapshots,
            **config.pace,
            "seed": config.seed or 0,
            "settings": asdict(self.settings),
            "threads": threads,
            "torch": torch.__version__,
        }
        text = json.dumps(self.key, sort_keys=True).encode()
        self.digest = blake2b(text, digest_size=16).hexdigest()
        self.folder = cache_folder("experts") / self.digest
        self.asleep = False
        self._open: dict[int, Any] = {}

    def path(self, number: int) -> Path:
        """Return the file of an expert: tensors by snapshot and name."""
        return self.folder / f"{number}.safetensors"

    @property
    def missing(self) -> list[int]:
        """The numbers of the experts that are still to be trained."""
        return [n for n in range(self.config.number) if not self.path(n).is_file()]

    @property
    def bytes(self) -> int:
        """The bytes on disk that the missing ones will take."""
        return 4 * self.values * self.config.snapshots * len(self.missing)

    def train(
        self,
        network: nn.Module,
        images: Tensor,
        labels: Tensor,
        prepare: Callable[[Tensor], Tensor] | None,
        report: Report = lambda done, total: None,
    ) -> None:
        """Train what is missing; one process at a time does, another finds the work done.

        Args:
            network: what is trained; a copy is.
            images: ``[n, C, H, W]`` in normalised space, or what ``prepare`` brings there.
            labels: class indices ``[n]``.
            prepare: brings a batch into normalised space; None where the images are there.
            report: called with the updates done and their total.

        Raises:
            DataError: a network diverged.
        """
        if not self.missing:
            return
        self.folder.mkdir(parents=True, exist_ok=True)
        with FileLock(self.folder / "lock"):
            (self.folder / "key.json").write_text(json.dumps(self.key, indent=2) + "\n", "utf-8")
            missing = self.missing
            trainer = Trainer(deepcopy(network).requires_grad_(True), self.settings)
            total = len(missing) * self.config.updates
            for done, number in enumerate(missing):
                before = done * self.config.updates

                def tell(updates: int, _: int, before: int = before) -> None:
                    report(before + updates, total)

                self._write(number, self._fit(trainer, number, images, labels, prepare, tell))

    def _fit(
        self,
        trainer: Trainer,
        number: int,
        images: Tensor,
        labels: Tensor,
        prepare: Callable[[Tensor], Tensor] | None,
        report: Report,
    ) -> dict[str, Tensor]:
        """Train one expert from fresh weights; return its snapshots."""
        rng, moments = self._rng(number), self.config.moments
        kept: dict[str, Tensor] = {}
        updates = 0

        def keep() -> None:
            for at in (at for at, moment in enumerate(moments) if moment == updates):
                for name, value in trainer.network.state_dict().items():
                    kept[_name(at, name)] = value.detach().to("cpu", copy=True).contiguous()

        def before(*_: Any) -> None:
            nonlocal updates
            keep()
            updates += 1

        initialise(trainer.network, rng, "weights")
        arguments = (images, labels, self._protocol, rng, self.augmentation)
        trainer.train(*arguments, progress=report, prepare=prepare, before=before)
        keep()
        if not all(bool(value.isfinite().all()) for value in trainer.network.parameters()):
            raise DataError(
                "a network diverged that was trained on the real images; a smaller experts.lr, "
                "fewer experts.updates, or another network, may not"
            )
        return kept

    @property
    def _protocol(self) -> Protocol:
        return Protocol(
            "experts",
            epochs=None,
            batch=BATCH,
            lr=self.config.lr,
            schedule=self.config.schedule,
            momentum=self.config.momentum,
            updates=self.config.updates,
            warmup=WARMUP,
            clip=CLIP,
        )

    def _write(self, number: int, kept: dict[str, Tensor]) -> None:
        from safetensors.torch import save

        write_bytes(self.path(number), save(kept))

    @torch.no_grad()
    def load(self, network: nn.Module, rng: Rng, step: int) -> None:
        """Put the weights of a step's expert into ``network``, in place.

        Raises:
            DataError: they are not there, or damaged.
        """
        words = rng.words("which expert", step, [0], 2)[0]
        number = int(words[0]) * self.config.number >> 32
        self._load(network, number, int(words[1]) * self.config.snapshots >> 32)

    def _load(self, network: nn.Module, number: int, at: int) -> None:
        parameters = {name for name, _ in network.named_parameters()}
        try:
            for name, value in network.state_dict().items():
                value.copy_(self._read(number, _name(at, name), value, name in parameters))
        except DataError as error:
            raise DataError(
                f"{error}; remove {self.folder} if it is there, and go on with --resume"
            ) from None

    @torch.no_grad()
    def segment(
        self, network: nn.Module, rng: Rng, step: int, span: int, latest: int
    ) -> tuple[State, State]:
        """Return a step's start and goal: the state of an expert, and that ``span`` moments on.

        It starts fresh (moment 0) or at one of the ``latest`` first moments that are kept.
        ``network`` is overwritten.

        Raises:
            DataError: they are not there, or damaged.
        """
        words = rng.words("which segment", step, [0], 2)[0]
        number = int(words[0]) * self.config.number >> 32
        first = int(words[1]) * (latest + 1) >> 32
        return self._state(network, number, first), self._state(network, number, first + span)

    def _state(self, network: nn.Module, number: int, moment: int) -> State:
        """Return an expert at a moment, counted from 1, by name; 0 is before training."""
        if moment == 0:
            initialise(network, self._rng(number), "weights")
        else:
            self._load(network, number, moment - 1)
        return state_of(network)

    def _rng(self, number: int) -> Rng:
        return Rng(self.config.seed or 0).child("expert", number)

    def _read(self, number: int, name: str, like: Tensor, trained: bool) -> Tensor:
        """Read a tensor; the file stays open, for the cache may be cleared while a run goes on."""
        path = self.path(number)
        with telling_damage(path):
            if number not in self._open:
                self._open[number] = open_tensors(path)
            found = self._open[number].get_tensor(name)
            if found.shape != like.shape or (trained and not bool(found.isfinite().all())):
                raise ValueError(f"{name} does not fit the network")
        return found

    def content(self) -> str:
        """Hash the experts themselves: trained on another machine they may differ in bits."""
        hasher = blake2b(digest_size=16)
        for number in range(self.config.number):
            hasher.update(self.path(number).read_bytes())
        return hasher.hexdigest()

    def __getstate__(self) -> dict[str, Any]:
        """Leave open files behind: they belong to their process."""
        return {**vars(self), "_open": {}}


@contextmanager
def asleep(experts: Sequence[Experts]) -> Iterator[None]:
    """Have untrained networks drawn meanwhile: to measure a step needs no trained ones."""
    for one in experts:
        one.asleep = True
    try:
        yield
    finally:
        for one in experts:
            one.asleep = False


def _name(at: int, name: str) -> str:
    return f"{at}/{name}"
