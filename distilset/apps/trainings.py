"""What is trained in a search: one network of the space on every proxy set, and on everything."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from torch import Tensor

from distilset.apps.space import Member
from distilset.augment import AugmentConfig
from distilset.data.normalise import Transform
from distilset.evaluation.judge import Judge, Trainers, TrialResult
from distilset.hardware import threads as limit_threads
from distilset.rng import Rng
from distilset.training.protocols import Protocol
from distilset.training.step import TrainSettings, eager
from distilset.types import ImageSet

WHOLE, EARLY = "whole", "early"
"""Names of the two that train on the whole data: to its end, and as long as a proxy takes."""

COMPILE_FROM = 1e13
"""Operations from which compiling a network (20 to 30 s) pays: eager they take about a minute."""


@dataclass(frozen=True, eq=False)
class ProxySet:
    """A small set to train on: normalised images and labels, a pair for all trials or one each."""

    name: str
    sets: tuple[tuple[Tensor, Tensor], ...]

    @property
    def n(self) -> int:
        """How many images there are in one set."""
        return len(self.sets[0][0])

    @property
    def form(self) -> tuple[object, ...]:
        """What sets that are trained on together must agree in."""
        images, labels = self.sets[0]
        return images.shape, labels.dtype, labels.shape


@dataclass(frozen=True)
class Job:
    """One training: a member on a proxy set (or `WHOLE`, `EARLY`), for the trial-th time."""

    member: Member
    proxy: str
    trial: int

    @property
    def key(self) -> str:
        """Its name in ``rows.csv``."""
        return f"{self.proxy} | {self.member.name} | {self.trial}"


@dataclass(frozen=True)
class Done:
    """What came of a job: accuracies in per cent; ``test`` only of `WHOLE`, where there is one."""

    job: Job
    accuracy: float
    test: float | None
    seconds: float
    compute: str


@dataclass(frozen=True)
class Panel(Judge):
    """A judge of several sets at once: trial t of every set has the weights and order of trial t.

    What its superclass calls trials are then slots, ``per`` of them for each set.
    """

    per: int = 1

    def _rng(self, trial: int) -> Rng:
        return super()._rng(trial % self.per)

    def also(self, part: ImageSet, n: int) -> float:
        """Score the network that was trained last, on ``n`` images, on another part; per cent."""
        trainer, _ = self._trainer(n)
        return 100 * trainer.accuracy(part.images, part.labels, self.transform)


@dataclass(frozen=True, eq=False)
class Work:
    """All that the trainings of a search share; may be sent to another process.

    ``scored`` is the part on which networks are compared; ``test`` the part on which networks
    trained on everything are scored besides, or None. ``costs`` are of training on one image, by
    member, in operations.
    """

    train: ImageSet
    scored: ImageSet
    test: ImageSet | None
    transform: Transform
    proxies: tuple[ProxySet, ...]
    protocol: Protocol
    early: Protocol
    whole: Protocol
    trials: int
    seed: int
    augmentation: AugmentConfig
    settings: TrainSettings
    costs: Mapping[str, float]
    threads: int | None = None

    def do(self, jobs: Sequence[Job]) -> Iterator[Done]:
        """Do jobs of one member: proxies of one form together, then what takes the whole data."""
        trainers = Trainers()  # kept for one member: compiled code of all would not fit
        with limit_threads(self.threads):
            yield from self._on_proxies(jobs, trainers)
            for job in jobs:
                if job.proxy in (WHOLE, EARLY):
                    yield self._on_everything(job, trainers)

    def _panel(
        self, member: Member, protocol: Protocol, trainers: Trainers, n: int, slots: int, per: int
    ) -> Panel:
        """Return the judge of ``slots`` trainings on ``n`` images; much work is compiled."""
        operations = member.operations(self.augmentation)
        work = self.costs[member.name] * passes(protocol, n) * slots
        settings = self.settings if work >= COMPILE_FROM else eager(self.settings)
        return Panel(
            self.scored, self.transform, member.network, member.protocol(protocol), slots,
            self.seed, operations, settings, trainers, None, per,
        )  # fmt: skip

    def _on_proxies(self, jobs: Sequence[Job], trainers: Trainers) -> Iterator[Done]:
        forms: dict[tuple[object, ...], list[ProxySet]] = {}
        for proxy in self.proxies:
            forms.setdefault(proxy.form, []).append(proxy)
        for group in forms.values():
            names = [proxy.name for proxy in group]
            slots = {
                names.index(job.proxy) * self.trials + job.trial: job
                for job in jobs
                if job.proxy in names
            }
            if slots:
                yield from self._on_group(group, slots, trainers)

    def _on_group(
        self, group: Sequence[ProxySet], slots: dict[int, Job], trainers: Trainers
    ) -> Iterator[Done]:
        member = next(iter(slots.values())).member
        number = len(group) * self.trials
        panel = self._panel(member, self.protocol, trainers, group[0].n, number, self.trials)

        def sets(slot: int) -> tuple[Tensor, Tensor]:
            which, trial = divmod(slot, self.trials)
            return group[which].sets[trial % len(group[which].sets)]

        for results in panel.each(sets, sorted(slots)):
            for slot, result in results.items():
                yield _done(slots[slot], result)

    def _on_everything(self, job: Job, trainers: Trainers) -> Done:
        whole, train = job.proxy == WHOLE, self.train
        protocol = self.whole if whole else self.early
        number = 1 if whole else self.trials
        panel = self._panel(job.member, protocol, trainers, len(train), number, number)
        result = panel.trial(job.trial, train.images, train.labels, self.transform.apply)
        test = panel.also(self.test, len(train)) if whole and self.test is not None else None
        return _done(job, result, test)

    def protocol_of(self, proxy: str) -> Protocol:
        """Return how networks are trained on a proxy set."""
        return {WHOLE: self.whole, EARLY: self.early}.get(proxy, self.protocol)

    def images_of(self, proxy: str) -> int:
        """Return how many images a proxy set has."""
        sizes = {one.name: one.n for one in self.proxies}
        return sizes.get(proxy, len(self.train))

    def passes_of(self, proxy: str) -> int:
        """Return how many images go through a network in one training on a proxy set."""
        return passes(self.protocol_of(proxy), self.images_of(proxy))


def passes(protocol: Protocol, n: int) -> int:
    """Return how many images a protocol takes through a network, trained on ``n`` of them."""
    whole, rest = divmod(protocol.total_updates(n), protocol.updates_per_epoch(n))
    return whole * n + min(rest * protocol.batch, n)


def _done(job: Job, result: TrialResult, test: float | None = None) -> Done:
    return Done(job, result.accuracy, test, result.seconds, result.compute)
