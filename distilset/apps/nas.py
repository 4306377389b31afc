"""Searching for networks or settings on small sets, and how far that can be trusted."""

import json
from collections.abc import Callable, Generator, Iterable, Mapping, Sequence
from contextlib import closing
from dataclasses import asdict, dataclass
from functools import cached_property
from os import PathLike
from pathlib import Path

from distilset.api import train_settings
from distilset.apps.findings import Finding, Proxy, Trainings, find, gathered, rows_text, summary
from distilset.apps.folder import TABLE, AppFolder, check_free
from distilset.apps.onfile import known_of, on_file
from distilset.apps.planning import Plan, plan_search
from distilset.apps.processes import in_processes
from distilset.apps.reference import FILE, Cache, Known, read_reference, write_reference
from distilset.apps.searchplots import draw
from distilset.apps.space import Given
from distilset.apps.trainings import WHOLE, Done, Job
from distilset.apps.wish import Wish
from distilset.card import labelled
from distilset.evaluation.matrix import Entry
from distilset.files import write_text
from distilset.hardware import threads as limit_threads
from distilset.parallel import group
from distilset.reporting.applications import SUMMARY, write_summary
from distilset.store import DistilledSet
from distilset.types import Splits

KIND = "nas"
FINDINGS, LEFT_OUT = "findings.json", "left_out.csv"

Progress = Callable[[float, float, str], None]
"""Called with the estimated operations done, their total, and what was done last."""


@dataclass
class Search:
    """A search in its folder: what is on file is not done again.

    Whole-data accuracies that a reference file or the cache has are put on file at once.
    """

    plan: Plan
    folder: AppFolder
    reference: Mapping[str, Known]

    def __post_init__(self) -> None:
        plan = self.plan
        self.cache = Cache(plan.cache_facts)
        self.done = set(on_file(self.folder))
        for job in plan.jobs:
            if job.proxy != WHOLE or job.key in self.done:
                continue
            known = self.reference.get(job.member.name) or self.cache.read(plan.member_facts(job))
            if known is not None:
                self._add(job, known)

    def run(self, progress: Progress | None = None) -> list[Finding]:
        """Train what is missing, each on file as soon as it is there; return the findings."""
        tell = progress or (lambda done, total, note: None)
        tasks: dict[str, list[Job]] = {}
        for job in self.plan.jobs:
            if job.key not in self.done:
                tasks.setdefault(job.member.name, []).append(job)
        self._tell(tell, "")
        with closing(self._trained(list(tasks.values()))) as results:
            for done in results:
                self._keep(done)
                if group.size() > 1 and group.leads():  # the others keep theirs
                    self.done = {row["key"] for row in self.folder.rows()}
                self._tell(tell, f"{len(self.done)} of {len(self.plan.jobs)} trainings")
        return group.lead(self.finish)

    def _trained(self, tasks: Sequence[Sequence[Job]]) -> Generator[Done, None, None]:
        """Do tasks: all of them in processes of our own, or as one of those that torchrun started.

        Then each takes the next task as soon as it has time.
        """
        if group.size() == 1:
            workers = min(self.plan.workers, len(tasks))
            yield from in_processes(self.plan.sharing(workers), tasks, workers)
            return
        tasks, work = group.lead(lambda: tasks), self.plan.sharing(1)
        for number in group.numbers(len(tasks)):
            yield from work.do(tasks[number])
        group.meet()

    def _tell(self, tell: Progress, note: str) -> None:
        if group.leads():
            spent = sum((cost for key, cost in self._costs.items() if key in self.done), 0.0)
            tell(spent, sum(self._costs.values()), note)

    @cached_property
    def _costs(self) -> dict[str, float]:
        return {job.key: self.plan.cost(job) for job in self.plan.jobs}

    def _keep(self, done: Done) -> None:
        known = Known(done.accuracy, done.test, done.seconds, done.compute)
        if done.job.proxy == WHOLE:
            self.cache.write(self.plan.member_facts(done.job), known)
        self._add(done.job, known)

    def _add(self, job: Job, known: Known) -> None:
        work = self.plan.work
        row = {
            "proxy": job.proxy,
            "member": job.member.name,
            "trial": job.trial,
            "split": work.scored.role,
            "accuracy": repr(known.accuracy),
            "test": "" if known.test is None else repr(known.test),
            "seconds": f"{known.seconds:.3f}",
            "images": work.images_of(job.proxy),
            "passes": work.passes_of(job.proxy),
            "source": known.source,
            "compute": known.compute,
        }
        self.folder.add(job.key, row | job.member.levels)
        self.done.add(job.key)

    def finish(self) -> list[Finding]:
        """Write the reference, the table and the plots; return the findings."""
        plan, folder = self.plan, self.folder
        names = [member.name for member in plan.chosen.members]
        rows = on_file(folder)
        trained = [self._trainings(proxy, names, rows) for proxy in plan.proxies]
        whole = {row["member"]: known_of(row) for row in rows.values() if row["proxy"] == WHOLE}
        tests = {name: whole[name].test for name in names}
        found = find(names, trained, tests, plan.wish.seed)
        write_reference(folder.path / FILE, plan.reference_facts, {n: whole[n] for n in names})
        document = {
            "split": plan.work.scored.role,
            "space": plan.space,
            "networks": len(names),
            "left_out": [list(pair) for pair in plan.chosen.left_out],
            "schedule": asdict(plan.work.whole),
            "findings": [one.as_row() for one in found],
        }
        write_text(folder.path / FINDINGS, json.dumps(document, indent=2) + "\n")
        draw(folder.path, trained, found, plan.work.scored.role)
        data, split = plan.work.train.info.name, plan.work.scored.role
        shown = summary(found, plan.space, data, split)
        write_text(folder.path / TABLE, shown.markdown())
        write_summary(folder.path, shown)
        return found

    def _trainings(
        self, proxy: Proxy, names: Sequence[str], rows: Mapping[str, Mapping[str, str]]
    ) -> Trainings:
        own = {
            (row["member"], int(row["trial"])): row
            for row in rows.values()
            if row["proxy"] == proxy.name
        }
        return gathered(proxy, names, self.plan.trials(proxy.name), own)


def open_search(
    plan: Plan, out: str | PathLike[str], *, resume: bool = False, overwrite: bool = False
) -> Search:
    """Take the folder of a search; of several processes of torchrun's the first makes it.

    Raises:
        ConfigError: other settings than those of the search that is resumed, a reference of other
            data.
        DataError: a folder in use.
    """
    file = plan.wish.reference
    reference = {} if file is None else read_reference(file, plan.reference_facts)
    if group.leads():
        check_free(Path(out), resume=resume, overwrite=overwrite)
        opened = Search(plan, _made(plan, out, resume=resume, overwrite=overwrite), reference)
        group.meet()
        return opened
    group.meet()
    return Search(plan, AppFolder(out, KIND, plan.settings, resume=True), reference)


def _made(plan: Plan, out: str | PathLike[str], *, resume: bool, overwrite: bool) -> AppFolder:
    folder = AppFolder(out, KIND, plan.settings, resume=resume, overwrite=overwrite)
    if not folder.rows():
        for name in (FILE, FINDINGS, SUMMARY):
            (folder.path / name).unlink(missing_ok=True)
    left_out = [{"member": name, "reason": why} for name, why in plan.chosen.left_out]
    write_text(folder.path / LEFT_OUT, rows_text(["member", "reason"], left_out))
    return folder


def search(
    runs: Iterable[str | PathLike[str] | DistilledSet],
    splits: Splits,
    out: str | PathLike[str],
    *,
    space: Given = "convnet720",
    network: str | None = None,
    sample: int | None = None,
    baselines: Sequence[str] = (),
    protocol: str = "quick",
    epochs: int | None = None,
    trials: int = 1,
    split: str = "val",
    reference: str | PathLike[str] | None = None,
    reference_updates: int | None = None,
    seed: int = 0,
    device: str = "auto",
    precision: str = "auto",
    threads: int | None = None,
    together: int | None = None,
    workers: int | None = None,
    resume: bool = False,
    overwrite: bool = False,
    progress: Progress | None = None,
) -> list[Finding]:
    """Train every network of a space on small sets and on the whole data, and compare.

    Networks are chosen by accuracy on the validation part, which ``load_data(..., val=0.1)`` carves
    from the training part and of which distilled sets have seen nothing; the test part is scored by
    networks trained on everything, and looked up for the picked ones alone.

    Args:
        runs: distilled or selected sets, or their run folders.
        splits: the data they were made from, split as they were then.
        out: the folder of the search: ``rows.csv``, ``table.md``, plots, ``reference.json``.
        space: ``convnet720``, ``hyper``, a TOML file, ``module:function``, or a list of
            `NetworkConfig`, of texts such as ``convnet:width=64``, or of `Member`.
        network: the network of a space over training [the first run's].
        sample: a stratified sample of as many networks [all].
        baselines: selectors, each with as many images as the runs have, and ``early``: the whole
            data for about as many image passes as a proxy takes.
        protocol: how networks are trained on proxies.
        epochs: another number of epochs than the protocol's.
        trials: trainings of each network on each proxy; on the whole data there is one.
        split: ``val``, or ``test`` to correlate test accuracies as the papers do, which chooses
            on the test part.
        reference: a ``reference.json`` of an earlier search on the same data.
        reference_updates: updates of 128 images on the whole data [4000].
        seed: decides the sample, weights, order and augmentation.
        device: ``auto``, ``cpu``, ``cuda`` ...
        precision: ``auto``, ``bf16`` or ``fp32``.
        threads: CPU threads in all; None is as many as PyTorch takes.
        together: trainings of one network at once, at most; on a GPU what its memory allows.
        workers: processes, which share the threads; None is one a thread on a CPU. Not used under
            torchrun, whose processes are these.
        resume: go on with what is in ``out``, or start.
        overwrite: replace an earlier search in ``out``.
        progress: called after every training.

    Returns:
        A `Finding` for each proxy, the whole data last.

    Raises:
        ConfigError: an unknown space, fewer than two networks, a sample larger than the space, no
            validation part, a reference of other data, other settings than the resumed search's.
        DataError: a folder in use, or data that do not fit a run.
    """
    group.start()
    if group.leads():
        check_free(Path(out), resume=resume, overwrite=overwrite)
    entries = [_entry(run, splits, number) for number, run in enumerate(runs)]
    wish = Wish(
        space, network, sample, tuple(baselines), protocol, epochs, trials, split,
        None if reference is None else Path(reference), reference_updates, seed,
        train_settings(device, precision, together), threads, workers,
    )  # fmt: skip
    with limit_threads(threads):
        plan = plan_search(entries, wish)
        return open_search(plan, out, resume=resume, overwrite=overwrite).run(progress)


def _entry(run: str | PathLike[str] | DistilledSet, splits: Splits, number: int) -> Entry:
    if isinstance(run, DistilledSet):
        name = labelled(f"{run.card.method}-{run.card.ipc}", run.card.factor)
        return Entry(f"{name} (set {number + 1})", run, splits)
    return Entry(str(run), DistilledSet.load(run), splits)
