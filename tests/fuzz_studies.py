"""What studies and searches read, with good input for it and how that is damaged."""

from collections.abc import Callable, Mapping
from functools import cache
from pathlib import Path
from typing import Any
from unittest import mock

import distilset
from distilset.apps import nas, study
from distilset.apps.continual import make_bench, open_folder
from distilset.apps.folder import AppFolder
from distilset.apps.nas import Search, open_search
from distilset.apps.planning import Plan, plan_search
from distilset.apps.reference import Known, read_reference, write_reference
from distilset.apps.space import get_space
from distilset.apps.study import Bench, Step, Study
from distilset.apps.trainings import WHOLE, Done
from distilset.apps.wish import Wish
from distilset.evaluation.matrix import Entry
from distilset.reporting.applications import Summary, read_application
from distilset.reporting.page import compose, to_html
from distilset.testing import drawn_images
from distilset.types import Splits
from tests.fuzz_caches import cached
from tests.fuzz_loaders import Loader
from tests.mutations import either, mutate, mutate_json

FACTS = {
    "schedule": {"updates": 2, "lr": 0.1},
    "split": "val",
    "data": {"name": "drawn", "fingerprint": "f"},
    "transform": "t",
    "augmentation": "a",
    "seed": 0,
}
SETTINGS = {"study": {"ipc": 3, "methods": ["dm", "random"], "rate": 0.5}, "data": {"name": "x"}}


def _make_reference(folder: Path) -> None:
    members = {f"net {n}": Known(50.0 + n, 40.0, 1.0, "eager") for n in range(3)}
    write_reference(folder / "reference.json", FACTS, members)


def _load_reference(folder: Path) -> object:
    found = read_reference(folder / "reference.json", FACTS)
    for known in found.values():
        assert known.accuracy != known.accuracy or 0 <= known.accuracy <= 100
        assert known.seconds < float("inf")
    return found


def _make_space(folder: Path) -> None:
    text = 'network = "convnet:depth=1"\n[factors]\nwidth = [8, 16]\nlr = [0.1, 0.01]\n'
    (folder / "space.toml").write_text(text + 'augmentation = ["none", "crop+flip"]\n')


def _load_space(folder: Path) -> object:
    found = get_space(str(folder / "space.toml"), {"name": "convnet"})
    return [member.name.encode() for member in found.members]


def _make_study(folder: Path) -> None:
    with cached(folder):
        made = AppFolder(folder / "study", "study", SETTINGS)
        made.add("one", {"accuracy": 12.5, "text": "a, b"})
        made.add("two", {"accuracy": 13.5, "text": "c"})
    made.finish(Summary("Title", "Lede.", "Caption.", ("set", "a"), (("dm", "1"), ("x", "2"))))
    (made.path / "plot-a.svg").write_text("<svg xmlns='http://www.w3.org/2000/svg'></svg>\n")


def _load_study(folder: Path) -> object:
    found = read_application(folder / "study")
    found.summary.markdown().encode()
    assert len(found.pictures) == 1
    page = to_html(compose([], {}, studies=[found]))
    page.encode()
    return found.shown_settings, page


def _resume_study(folder: Path) -> object:
    with cached(folder):
        found = AppFolder(folder / "study", "study", SETTINGS, resume=True)
        before = len(found.rows())
        found.add("three", {"accuracy": 1.0})
    assert found.done("three")
    assert len(found.rows()) >= before
    return found


@cache
def _splits() -> Splits:
    parts = [
        drawn_images((3, 8, 8), (6, 6, 6, 6), role=role, seed=seed).with_info(
            val_fraction=0.25, fingerprint="drawn"
        )
        for seed, role in enumerate(("train", "test", "val"))
    ]
    return Splits(*parts)


@cache
def _bench() -> Bench:
    asked = Study(2, 1, ("random", "herding"), 2, 2)
    return make_bench(_splits(), asked, network="convnet:width=8,depth=1", device="cpu")


def _learned(bench: Bench, step: Step, folder: Path) -> list[dict[str, Any]]:
    facts = {"method": step.method, "order": step.order, "task": step.task, "seen": 2 * step.task}
    facts |= {"classes": "0 | 1", "images": 2, "bytes": 384}
    accuracies = (50.0, 60.5)[: bench.study.trials]
    return [
        {**facts, "trial": trial, "accuracy": accuracy, "seconds": 0.1, "compute": "eager"}
        for trial, accuracy in enumerate(accuracies, 1)
    ]


def _continue(folder: Path) -> object:
    """Run or resume a study whose networks need no training, and draw nothing."""
    with cached(folder), mock.patch.multiple(Bench, learn=_learned, remember=_remembered):
        made = open_folder(_bench(), folder / "study", resume=True)
        with mock.patch.object(study, "plot"):
            found = _bench().run(made, lambda what, done, total: None)
    assert {"random", "herding"} <= {curve.method for curve in found}
    for curve in found:
        assert 0 <= curve.average.mean <= 100 or curve.average.mean != curve.average.mean
    return found


def _remembered(_bench: Bench, step: Step, folder: Path, _watch: study.Watch) -> None:
    (folder / step.folder).mkdir(parents=True, exist_ok=True)
    (folder / step.folder / study.CARD).write_text("")


@cache
def _plan() -> Plan:
    space = ["convnet:width=4,depth=1", "convnet:width=8,depth=1", "convnet:width=8,depth=2"]
    wish = Wish(space, baselines=["random"], epochs=1, reference_updates=2)
    chosen = distilset.select(_splits().train, "herding", 2)
    return plan_search([Entry("herding-2", chosen, _splits())], wish)


def _search(folder: Path) -> object:
    """Start or resume a search whose networks need no training, and draw nothing."""

    def accuracies(work: Any, tasks: Any, number: int) -> Any:
        for job in (job for task in tasks for job in task):
            accuracy = 40.0 + len(job.member.name) % 7 + 5 * (job.proxy == WHOLE)
            yield Done(job, accuracy, 30.0 if job.proxy == WHOLE else None, 0.1, "eager")

    patches = {"draw": mock.DEFAULT, "in_processes": accuracies}
    with cached(folder), mock.patch.multiple(nas, **patches):
        opened: Search = open_search(_plan(), folder / "study", resume=True)
        found = opened.run()
    for one in found:
        assert 0 <= one.picked_whole <= 100 or one.picked_whole != one.picked_whole
    return found


def _start(work: Callable[[Path], object], folder: Path) -> None:
    work(folder)


_JSON = either(mutate, mutate_json)

LOADERS: Mapping[str, Loader] = {
    "space": Loader(_make_space, _load_space, {"space.toml": mutate}),
    "reference": Loader(_make_reference, _load_reference, {"reference.json": _JSON}),
    "study": Loader(
        _make_study,
        _load_study,
        {"study/app.toml": mutate, "study/summary.json": _JSON, "study/plot-a.svg": mutate},
    ),
    "study-resumed": Loader(
        _make_study,
        _resume_study,
        {"study/app.toml": mutate, "study/rows.csv": mutate},
        writes=True,
    ),
    "continual-rows": Loader(
        lambda folder: _start(_continue, folder),
        _continue,
        {"study/rows.csv": mutate},
        writes=True,
        every=2,
    ),
    "search-rows": Loader(
        lambda folder: _start(_search, folder),
        _search,
        {"study/rows.csv": mutate},
        writes=True,
        every=2,
    ),
}
