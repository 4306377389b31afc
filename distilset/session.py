"""One distillation from settings to a set: what Python's call and the command line share."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from time import perf_counter

from distilset.allocator import kept_memory
from distilset.bank import Bank, Report
from distilset.banks import Banks
from distilset.config import RunConfig
from distilset.errors import DataError
from distilset.hardware import threads
from distilset.live import TensorBoard
from distilset.optimise import Record
from distilset.parallel import group
from distilset.plan import Plan, make_plan, probe, versions, with_checkpoints
from distilset.runfolder import RunFolder
from distilset.runs import Progress, begin, carry_out, finish, resume
from distilset.store import DistilledSet, write_results
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

    @property
    def steps_left(self) -> int:
        """The steps still to do."""
        return max(0, self.plan.config.distill.steps - self.progress.state.step)

    @property
    def bank(self) -> Bank | Banks | None:
        """The bank of targets, if the run uses one."""
        return getattr(self.plan.method, "bank", None)

    def build_bank(self, report: Report = lambda done, total: None) -> None:
        """Compute the targets that a bank still lacks."""
        if self.bank is not None:
            with threads(self.plan.config.engine.threads), kept_memory():
                self.bank.build(report)

    def records(self, stop: Callable[[], bool] = lambda: False) -> Iterator[Record]:
        """Do the steps; raises `Interrupted` after saving, if ``stop`` says so."""
        if self.folder is not None and group.leads():
            self.folder.open(self.plan.settings)
        group.meet()
        run = None if self.folder is None else self.folder.path
        records = carry_out(self.plan, run, self.progress, stop)
        yield from records if run is None or not self.tensorboard else self._watched(run, records)

    def _watched(self, run: Path, records: Iterator[Record]) -> Iterator[Record]:
        board = TensorBoard(run, self.plan, self.progress)
        try:
            for record in records:
                board.see(record)
                yield record
        finally:
            board.close()

    def finish(self) -> DistilledSet:
        """Make the distilled set, and write it if there is a folder."""
        with threads(self.plan.config.engine.threads):
            distilled = finish(self.plan, self.progress)
        if self.folder is not None and group.leads():
            write_results(self.folder.path, distilled)
        return distilled


def open_session(config: RunConfig, train: ImageSet, folder: RunFolder | None = None) -> Session:
    """Check everything that can be checked before the first step, and measure a step.

    Nothing is written.

    Raises:
        ConfigError: settings that do not fit the data or the machine.
        DataError: a run to be resumed that was made from other data, or is damaged.
    """
    check_alike(train)
    with threads(config.engine.threads):  # a whitening fitted by more threads differs in its bits
        plan = make_plan(config, train)
    with threads(plan.config.engine.threads):
        resuming = folder is not None and folder.earlier is not None
        progress = resume(folder.path, plan) if folder and resuming else begin(plan)
        seconds = probe(plan, progress.state.images)
        session = Session(with_checkpoints(plan, seconds), progress, seconds, folder)
        return session if session.bank is None else _with_bank_time(session, session.bank)


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
