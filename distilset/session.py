"""One distillation from settings to a set: what Python's call and the command line share."""

import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from time import perf_counter

from distilset.allocator import kept_memory
from distilset.bank import Bank, Report
from distilset.banks import Banks
from distilset.config import RunConfig
from distilset.data.normalise import Transform
from distilset.errors import ConfigError, DataError
from distilset.experts import asleep
from distilset.guard import agreeing
from distilset.hardware import threads
from distilset.live import TensorBoard
from distilset.optimise import MOMENTS, Record
from distilset.parallel import group
from distilset.plan import Plan, make_plan, versions, with_checkpoints
from distilset.probing import probe
from distilset.room import REST, check_room, told_if_full
from distilset.runfolder import RunFolder
from distilset.runs import Progress, begin, carry_out, finish, resume
from distilset.shortage import ADVICE, attempt, check_memory, enduring
from distilset.store import CHECKPOINTS, DistilledSet, write_results
from distilset.types import ImageSet


@dataclass
class Session:
    """A run that may start: its plan, where it stands, and the measured seconds of a step.

    With ``tensorboard`` and a folder the steps are written there for TensorBoard, too.
    """

    plan: Plan
    progress: Progress
    seconds_per_step: float
    folder: RunFolder | None
    bank_seconds: float = 0.0
    tensorboard: bool = False
    warnings: tuple[str, ...] = ()

    @property
    def steps_left(self) -> int:
        """The steps still to do."""
        return max(0, self.plan.config.distill.steps - self.progress.state.step)

    @property
    def bank(self) -> Bank | Banks | None:
        """The bank of targets, if the run uses one."""
        return getattr(self.plan.method, "bank", None)

    def train_experts(self, report: Report = lambda done, total: None) -> None:
        """Train the networks that a run with experts still lacks; rank 0 does.

        Raises:
            DataError: a network diverged; a cache folder that not all processes share.
            ConfigError: memory ran out.
        """
        task = self.plan.task
        if not task.experts:
            return
        if group.lead(lambda: self.missing_experts):
            start = perf_counter()
            with told_if_full(task.experts[0].folder), threads(self.plan.config.engine.threads):
                group.lead(lambda: self._train(report))
            self.progress.note(f"the experts were trained in {perf_counter() - start:.0f} s")
        if agreeing(task.share)(self.missing_experts > 0):
            raise DataError(
                f"the trained networks at {task.experts[0].folder} cannot be seen by all "
                "processes; the cache folder must be one that all machines share"
            )

    def _train(self, report: Report) -> None:
        _, told = attempt(lambda: self.plan.task.train_experts(report))
        if told is not None:
            raise ConfigError(f"memory does not suffice to train experts ({told}); {ADVICE}")

    @property
    def missing_experts(self) -> int:
        """The number of networks that are still to be trained."""
        return sum(len(one.missing) for one in self.plan.task.experts)

    def build_bank(self, report: Report = lambda done, total: None) -> None:
        """Compute the targets that a bank still lacks."""
        if self.bank is not None:
            folder = self.bank.parts[0].folder
            with told_if_full(folder), threads(self.plan.config.engine.threads), kept_memory():
                if self.plan.task.share is not None:  # they build together, and fail together
                    self.bank.build(report)
                    return
                _, plan, notes = enduring(self.plan, partial(_build, report=report))
            self._replan(plan, *notes)

    def records(self, stop: Callable[[], bool] = lambda: False) -> Iterator[Record]:
        """Do the steps; raises `Interrupted` after saving, if ``stop`` says so.

        The folder is held until `finish`, or until the steps end otherwise.
        """
        if self.folder is None:
            group.meet()
            yield from carry_out(self.plan, None, self.progress, stop, self._shrunk)
            return
        run = self.folder.path
        try:
            with told_if_full(run):
                if group.leads():
                    self.folder.open(self.plan.settings)
                group.meet()
                records = carry_out(self.plan, run, self.progress, stop, self._shrunk)
                yield from self._watched(run, records) if self.tensorboard else records
        except BaseException:
            self.folder.close()
            raise

    def _replan(self, plan: Plan, *notes: str) -> None:
        self.plan = plan
        self.progress.note(*notes)

    def _shrunk(self, plan: Plan) -> Plan:
        """Go on with a plan of a smaller chunk, on disk too; its bank is another one."""
        self._replan(plan)
        self.build_bank()
        if self.folder is not None and group.leads():
            self.folder.write(self.plan.settings)
        return self.plan

    def _watched(self, run: Path, records: Iterator[Record]) -> Iterator[Record]:
        board = TensorBoard(run, self.plan, self.progress)
        try:
            for record in records:
                board.see(record)
                yield record
        finally:
            board.close()

    def finish(self) -> DistilledSet:
        """Make the distilled set, and write it if there is a folder, which others may then have."""
        with threads(self.plan.config.engine.threads):
            if self.folder is None:
                return finish(self.plan, self.progress)
            try:
                distilled = finish(self.plan, self.progress)
                if group.leads():
                    with told_if_full(self.folder.path):
                        write_results(self.folder.path, distilled)
                return distilled
            finally:
                self.folder.close()

    def needs(self) -> Mapping[Path, int]:
        """Return the bytes on disk that the run is still to take, by folder."""
        task, needs = self.plan.task, {}
        if self.folder is not None:
            images = 4 * task.classes * task.ipc * math.prod(task.train.spec.shape)
            zca = 0 if task.transform.zca is None else 8 * task.transform.zca.matrix.numel()
            states = 2 * len(CHECKPOINTS)  # each with a kept one
            copies = 1 + states * (1 + len(MOMENTS[self.plan.config.distill.optimizer]))
            needs[self.folder.path] = max(REST, copies * images + zca + REST - self.folder.size)
        for one in self.plan.task.experts:
            needs[one.folder] = one.bytes
        for bank in () if self.bank is None else self.bank.parts:
            needs[bank.folder] = bank.missing_bytes
        return needs


def open_session(
    config: RunConfig,
    train: ImageSet,
    folder: RunFolder | None = None,
    transform: Transform | None = None,
) -> Session:
    """Check everything that can be checked before the first step, and measure a step.

    Nothing is written. ``transform`` takes the place of the one fitted on ``train``.

    Raises:
        ConfigError: settings that do not fit the data or the machine.
        DataError: a run to be resumed that was made from other data, or is damaged; a disk that
            has no room for the run.
    """
    check_alike(train)
    with threads(config.engine.threads):  # a whitening fitted by more threads differs in its bits
        plan = make_plan(config, train, transform)
    plan = replace(plan, first_chunk=None if folder is None else folder.first_chunk)
    warnings = check_memory(plan)
    with threads(plan.config.engine.threads):
        resuming = folder is not None and folder.earlier is not None
        progress = resume(folder.path, plan) if folder and resuming else begin(plan)
        measure = partial(probe, images=progress.state.images)
        with asleep(plan.task.experts):
            seconds, plan, notes = enduring(plan, measure, agreeing(plan.task.share))
        seconds = group.lead(lambda: seconds)
        progress.note(*notes)
        session = Session(with_checkpoints(plan, seconds), progress, seconds, folder)
        session.warnings = tuple(warnings)
        if group.leads():
            check_room(session.needs())
        with asleep(plan.task.experts):
            return session if session.bank is None else _with_bank_time(session, session.bank)


def _build(plan: Plan, report: Report) -> None:
    """Build the bank of a plan, which has one."""
    bank: Bank | Banks = plan.method.bank  # type: ignore[attr-defined]
    bank.build(report)


def check_alike(train: ImageSet) -> None:
    """Refuse processes that were given different data or have other versions.

    Raises:
        DataError: with what the first differing process has.
    """
    group.meet()  # some may have read longer than others
    facts = {"data": train.info.fingerprint or str(train.offsets), **versions()}
    for rank, others in enumerate(group.collect(facts)):
        for name, value in others.items():
            if value != facts[name]:
                raise DataError(
                    f"the processes differ in {name}: {facts[name]}, {rank} has {value}"
                )


def _with_bank_time(session: Session, bank: Bank | Banks) -> Session:
    """Tell the seconds of building a bank from those of a step, which the probe has mixed."""
    missing = group.lead(lambda: bank.missing)
    if not missing:
        return session
    for part in bank.parts:
        start = perf_counter()
        part.compute(0)
        session.bank_seconds += part.missing * (perf_counter() - start)
    target = session.bank_seconds / missing
    session.bank_seconds /= bank.workers
    session.seconds_per_step = max(session.seconds_per_step - target, 0.1 * target)
    return session
