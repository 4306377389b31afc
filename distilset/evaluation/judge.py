"""One judge for all trials: fresh networks, alone or together, each scored once."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from time import perf_counter

import torch
from torch import Tensor

from distilset.augment import AugmentConfig
from distilset.compilation import first_line
from distilset.data.normalise import Transform
from distilset.errors import ConfigError
from distilset.evaluation.checks import check_images, check_scored
from distilset.models import NetworkConfig, build_network, initialise
from distilset.rng import Rng
from distilset.training.grouping import groups, how_many
from distilset.training.protocols import Protocol
from distilset.training.step import Labels, TrainSettings, settle
from distilset.training.together import State, Together, load_state, state_of
from distilset.training.trainer import Trainer
from distilset.types import ImageSet, ImageSpec

Progress = Callable[[int, int, int], None]
"""Called with the trial, counted from 0, its updates done and their total."""

Prepare = Callable[[Tensor], Tensor]

Sets = Callable[[int], tuple[Tensor, Tensor]]
"""Returns the normalised images and labels of a trial; shared ones are the same objects."""


@dataclass(frozen=True)
class TrialResult:
    """One trained network: accuracy in per cent (NaN if it diverged), and wall-clock seconds.

    ``compute`` says how it was computed, and why not faster. Of networks trained together each has
    an equal share of the seconds.
    """

    accuracy: float
    seconds: float
    compute: str


class Trainers:
    """Trainers kept for reuse, so that a network of one shape is built and compiled once."""

    def __init__(self) -> None:
        self._made: dict[tuple[NetworkConfig, ImageSpec, int, TrainSettings], Trainer] = {}
        self._together: dict[Trainer, Together] = {}

    def get(
        self, network: NetworkConfig, spec: ImageSpec, classes: int, settings: TrainSettings
    ) -> Trainer:
        """Return the trainer of a network; its weights are to be drawn anew."""
        settings = replace(settings, together=None)  # which changes nothing of a trainer
        key = (network, spec, classes, settings)
        if key not in self._made:
            self._made[key] = Trainer(build_network(network, spec, classes), settings)
        return self._made[key]

    def together(self, trainer: Trainer) -> Together:
        """Return what trains several networks of a trainer's shape at once."""
        if trainer not in self._together:
            self._together[trainer] = Together(trainer.network, trainer.settings)
        return self._together[trainer]


@dataclass(frozen=True)
class Judge:
    """All that stays the same from one trial to the next; ``run`` trains and scores the networks.

    Raises:
        ConfigError: if ``test`` is not a test or validation part, or ``trials`` is below 1.
    """

    test: ImageSet
    transform: Transform
    network: NetworkConfig
    protocol: Protocol
    trials: int
    seed: int
    augmentation: AugmentConfig | None
    settings: TrainSettings
    trainers: Trainers
    progress: Progress | None = None

    def __post_init__(self) -> None:
        check_scored(self.test)
        if self.trials < 1:
            raise ConfigError(f"trials must be 1 or more; got {self.trials}")

    @property
    def operations(self) -> AugmentConfig | None:
        """DSA as this protocol and these data want it: without flip where mirroring is wrong."""
        if self.augmentation is None or not self.protocol.augment:
            return None
        kept = self.augmentation if self.test.info.mirror else self.augmentation.without_flip()
        return kept if kept.operations else None

    def run(self, sets: Sets) -> list[TrialResult]:
        """Train a network for each trial, on the set of that trial, and score each once.

        Sets are of one size. Networks are trained together where `how_many` says so; the result of
        a trial does not depend on it, but for rounding.
        """
        found: dict[int, TrialResult] = {}
        for results in self.each(sets, range(self.trials)):
            found |= results
        return [found[trial] for trial in range(self.trials)]

    def each(self, sets: Sets, trials: Sequence[int]) -> Iterator[dict[int, TrialResult]]:
        """Train the networks of some trials; yield the results of those that are done, by trial.

        A trial is computed as if all of the judge's were asked for, so that it does not matter in
        how many calls they are made.
        """
        images, labels = sets(trials[0])
        check_images(images, labels, self.test)
        trainer, reason = self._trainer(len(images))
        rows = min(len(images), self.protocol.batch)
        size, why = how_many(len(trials), trainer.network, self.settings, self.test.spec, rows)
        for positions in groups(len(trials), size):
            some = [trials[position] for position in positions]
            if len(some) > 1:
                yield dict(zip(some, self._group(some, sets, trainer, reason, why), strict=True))
            else:
                yield {some[0]: self.trial(some[0], *sets(some[0]), note=_alone(why))}

    def trial(
        self,
        trial: int,
        images: Tensor,
        labels: Labels,
        prepare: Prepare | None = None,
        note: str = "",
    ) -> TrialResult:
        """Train a fresh network on normalised ``images``, or ``prepare``'d ones; score it once.

        ``note`` is appended to how it was computed.
        """
        check_images(images, labels, self.test)
        start = perf_counter()
        rng = self._rng(trial)
        trainer, reason = self._trainer(len(images))
        initialise(trainer.network, rng, "weights")
        report = self.progress
        trainer.train(
            images,
            labels,
            self.protocol,
            rng,
            self.operations,
            None if report is None else lambda done, total: report(trial, done, total),
            prepare,
        )
        accuracy = self._score(trainer)
        how = "compiled" if trainer.step.compiled else f"eager ({trainer.step.note or reason})"
        return TrialResult(
            accuracy, perf_counter() - start, f"{trainer.step.settings.precision}, {how}{note}"
        )

    def _group(
        self, trials: Sequence[int], sets: Sets, trainer: Trainer, reason: str, why: str
    ) -> list[TrialResult]:
        """Train the networks of several trials together; one by one if that fails.

        It does where memory runs out after all, and for layers that cannot be stacked; an error of
        another kind comes again. A trial's seconds are those of the group over its size.
        """
        start = perf_counter()
        together, failure = self.trainers.together(trainer), ""
        states: list[State] = []
        try:
            states = self._train_group(trials, sets, together)
        except RuntimeError as error:
            failure = f"{len(trials)} together failed: {first_line(error)}"
        if failure:  # out of the block above, which keeps the tensors of the failed pass alive
            torch.cuda.empty_cache()
            note = _alone(failure)
            return [self.trial(trial, *sets(trial), note=note) for trial in trials]
        accuracies = []
        for state in states:
            load_state(trainer.network, state)
            accuracies.append(self._score(trainer))
        settings = together.settings
        reason = together.failure or reason
        how = "compiled" if settings.compile and not together.failure else f"eager ({reason})"
        compute = f"{settings.precision}, {how}, {len(trials)} networks together ({why})"
        seconds = (perf_counter() - start) / len(trials)
        return [TrialResult(accuracy, seconds, compute) for accuracy in accuracies]

    def _train_group(self, trials: Sequence[int], sets: Sets, together: Together) -> list[State]:
        rngs = [self._rng(trial) for trial in trials]
        starts = []
        for rng in rngs:
            initialise(together.network, rng, "weights")
            starts.append(state_of(together.network))
        own = [sets(trial) for trial in trials]
        for images, labels in own:
            check_images(images, labels, self.test)
        return together.train(
            starts,
            [images for images, _ in own],
            [labels for _, labels in own],
            self.protocol,
            rngs,
            self.operations,
            None if self.progress is None else _one_after_another(self.progress, trials),
        )

    def _trainer(self, n: int) -> tuple[Trainer, str]:
        """Return the trainer for sets of ``n`` images, and why it computes as it does."""
        passes = self.trials * self.protocol.total_updates(n) * min(n, self.protocol.batch)
        settings, reason = settle(self.settings, passes, self.test.spec)
        classes = len(self.test.classes)
        return self.trainers.get(self.network, self.test.spec, classes, settings), reason

    def _rng(self, trial: int) -> Rng:
        """Return a trial's stream, the same whatever else is trained."""
        return Rng(self.seed).child("trial", trial)

    def _score(self, trainer: Trainer) -> float:
        """Score the trainer's network, in per cent."""
        return 100 * trainer.accuracy(self.test.images, self.test.labels, self.transform)


def _alone(why: str) -> str:
    return f", one by one ({why})" if why else ""


def _one_after_another(progress: Progress, trials: Sequence[int]) -> Callable[[int, int], None]:
    """Report the updates of networks trained together as if they were done one by one."""

    def told(done: int, total: int) -> None:
        before, own = divmod(done * len(trials) - 1, total)
        progress(trials[before], own + 1, total)

    return told
