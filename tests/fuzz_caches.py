"""What the cache keeps, with good input for it and how that is damaged: made anew, not believed."""

import io
import json
import os
import shutil
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, replace
from functools import cache
from pathlib import Path
from unittest import mock

import numpy as np
import torch
from rich.console import Console

from distilset.apps.reference import Cache, Known
from distilset.bank import Bank
from distilset.cache import entries
from distilset.data import blocks, load_data, making, whitening
from distilset.data.header import HEADER, PIXELS, _hash
from distilset.data.normalise import fit_transform
from distilset.data.worklog import LOG
from distilset.data.worklog import PIXELS as UNFINISHED
from distilset.data.zca import Zca, zca_digest
from distilset.evaluation import baselines
from distilset.evaluation.identity import digest_of
from distilset.evaluation.judge import TrialResult
from distilset.plan import make_plan
from distilset.selectors import hardness
from distilset.store import write_zca
from distilset.terminal import plain_table
from distilset.testing import drawn_images, small_config
from distilset.untrusted import read_tensors
from tests.fuzz_loaders import Loader, make_folders
from tests.mutations import either, mutate, mutate_header, mutate_json

TRAIN = drawn_images((3, 8, 8), (4, 4, 4))
N = 12
FACTS, MEMBER = {"split": "val"}, {"member": "convnet"}
KNOWN = f"cache/reference/{digest_of({**FACTS, **MEMBER})}.json"
WHOLE, SCORES, TARGETS, WHITENING = "whole.json", "scores.npy", "targets.f16", "zca.safetensors"
FIT = "fit.json"


@contextmanager
def cached(folder: Path) -> Iterator[Path]:
    """Have the cache inside a folder."""
    with mock.patch.dict(os.environ, DISTILSET_CACHE=str(folder / "cache")):
        yield folder / "cache"


def _map_of(folder: Path) -> Path:
    return next(path for path in (folder / "cache" / "mapped").iterdir() if path.is_dir())


def _make_map(folder: Path) -> None:
    make_folders(folder, each=4)
    with cached(folder):
        load_data(folder / "data", mapped=True)
    _take(_map_of(folder), folder, HEADER, PIXELS)


def _make_unfinished(folder: Path) -> None:
    make_folders(folder, each=4)
    add = making.Worklog.add

    def stop(self: making.Worklog, block: blocks.Block) -> None:
        if len(self.noted) == 2:
            raise KeyboardInterrupt
        add(self, block)

    with cached(folder), mock.patch.object(blocks, "BLOCK", 2):
        try:
            with mock.patch.object(making.Worklog, "add", stop):
                load_data(folder / "data", mapped=True)
        except KeyboardInterrupt:
            _take(_map_of(folder), folder, LOG, UNFINISHED)


@cache
def _decoded(folder: Path) -> torch.Tensor:
    return load_data(folder / "data", mapped=False).train.images


def _take(there: Path, folder: Path, *names: str) -> None:
    """Copy files whose folder in the cache has another name each time."""
    for name in names:
        shutil.copyfile(there / name, folder / name)


def _load_map(*names: str, exact: bool) -> Callable[[Path], object]:
    """Put files into the map and open it; ``exact`` if no damage may be left in the pixels."""

    def load(folder: Path) -> object:
        there = _map_of(folder)
        for file in there.iterdir():
            file.unlink()
        _take(folder, there, *names)
        with cached(folder), mock.patch.object(blocks, "BLOCK", 2):
            train = load_data(folder / "data", mapped=True).train
        assert train.images.shape[1:] == (3, 8, 8)
        assert int(train.images.long().sum()) >= 0  # every page is touched
        assert not exact or torch.equal(train.images, _decoded(folder))
        return train

    return load


def _rehashed(content: bytes, rng: np.random.Generator) -> bytes:
    """Damage a map's header and write the hash that fits."""
    values = json.loads(content)["header"]
    values = json.loads(mutate_json(json.dumps(values).encode(), rng))
    return json.dumps({"hash": _hash(values), "header": values}).encode()


def _make_whole(folder: Path) -> None:
    result = asdict(TrialResult(90.0, 1.0, "eager"))
    (folder / WHOLE).write_text(json.dumps({"key": FACTS, "result": result}))


def _load_whole(folder: Path) -> object:
    found = baselines._read(folder / WHOLE)
    assert found is None or 0 <= found.accuracy <= 100
    assert found is None or 0 <= found.seconds < float("inf")
    return found


def _make_known(folder: Path) -> None:
    with cached(folder):
        Cache(FACTS).write(MEMBER, Known(90.0, 80.0, 1.0, "eager"))


def _load_known(folder: Path) -> object:
    with cached(folder):
        found = Cache(FACTS).read(MEMBER)
    if found is not None:
        assert all(0 <= value <= 100 for value in (found.accuracy, found.test or 0.0))
        assert isinstance(found.seconds, float)
        assert isinstance(found.compute, str)
    return found


def _make_scores(folder: Path) -> None:
    hardness._write(folder / SCORES, torch.rand(N))


def _load_scores(folder: Path) -> object:
    found = hardness._read(folder / SCORES, N)
    assert found is None or found.shape == (N,)
    assert found is None or bool((found >= 0).all())
    return found


@cache
def _bank(folder: Path) -> Bank:
    config = small_config("datadam", {})
    plan = make_plan(replace(config, distill=replace(config.distill, bank=3, steps=4)), TRAIN)
    bank = plan.method.bank  # pyright: ignore[reportAttributeAccessIssue]
    assert isinstance(bank, Bank)
    return bank


def _make_bank(folder: Path) -> None:
    with cached(folder):
        bank = _bank(folder)
        bank.build()
    shutil.copyfile(bank.path(bank.engine.statistics[0]), folder / TARGETS)


def _load_bank(folder: Path) -> object:
    """Build and read a bank; what its file has lost is computed."""
    bank = _bank(folder)
    shutil.copyfile(folder / TARGETS, bank.path(bank.engine.statistics[0]))
    bank._maps.clear()
    bank.build()
    assert bank.missing == 0
    for index in range(3):
        assert all(bool(mean.isfinite().all()) for mean in bank.read(index).means)
    return bank


@cache
def _whitening() -> Zca:
    found = fit_transform(TRAIN, zca=True).zca
    assert found is not None
    return found


def _shared(folder: Path) -> Path:
    return folder / "cache" / "transforms" / f"{zca_digest(_whitening())}.safetensors"


def _make_whitening(folder: Path) -> None:
    with cached(folder):
        write_zca(folder / "first", _whitening())
    shutil.copyfile(_shared(folder), folder / WHITENING)


def _load_whitening(folder: Path) -> object:
    (folder / "run").unlink(missing_ok=True)
    _shared(folder).unlink()
    shutil.copyfile(folder / WHITENING, _shared(folder))
    with cached(folder):
        write_zca(folder / "run", _whitening())
    for path in (folder / "run", _shared(folder)):
        assert zca_digest(Zca(**read_tensors(path)[0])) == zca_digest(_whitening())
    return None


@contextmanager
def _kept_fits(folder: Path) -> Iterator[Path]:
    """Have the fits of small images kept, too; yield the one of ours."""
    with cached(folder) as root, mock.patch.object(whitening, "KEPT_FROM", 1):
        fit_transform(TRAIN, zca=True)
        yield next((root / "fits").iterdir())


def _make_fit(folder: Path) -> None:
    with _kept_fits(folder) as path:
        shutil.copyfile(path, folder / FIT)


def _load_fit(folder: Path) -> object:
    with _kept_fits(folder) as path:
        shutil.copyfile(folder / FIT, path)
        assert zca_digest(fit_transform(TRAIN, zca=True).zca) == zca_digest(_whitening())
    return None


def _list_cache(folder: Path) -> object:
    with cached(folder):
        rows = [(one.kind, one.path.name, str(one.bytes), one.about) for one in entries()]
    console = Console(file=io.StringIO(), width=80)
    console.print(plain_table("", ("kind", "name", "size", "of"), rows))
    return rows


def _make_list(folder: Path) -> None:
    for name, made in ((HEADER, _make_map), (LOG, _make_unfinished)):
        made(folder / name)
        (folder / "cache" / "mapped" / name).mkdir(parents=True)
        shutil.copyfile(folder / name / name, folder / "cache" / "mapped" / name / name)


_JSON = either(mutate, mutate_json)

LOADERS: Mapping[str, Loader] = {
    "map": Loader(
        _make_map,
        _load_map(HEADER, PIXELS, exact=False),
        {HEADER: either(mutate, mutate_json, _rehashed, _rehashed), PIXELS: mutate},
        writes=True,
        mends=True,
        every=2,
    ),
    "map-unfinished": Loader(
        _make_unfinished,
        _load_map(LOG, UNFINISHED, exact=True),
        {LOG: mutate, UNFINISHED: mutate},
        writes=True,
        mends=True,
        every=2,
    ),
    "whole": Loader(_make_whole, _load_whole, {WHOLE: _JSON}, mends=True),
    "reference-cache": Loader(_make_known, _load_known, {KNOWN: _JSON}, writes=True, mends=True),
    "hardness": Loader(_make_scores, _load_scores, {SCORES: mutate}, mends=True),
    "bank": Loader(_make_bank, _load_bank, {TARGETS: mutate}, writes=True, mends=True),
    "whitening": Loader(
        _make_whitening,
        _load_whitening,
        {WHITENING: either(mutate, mutate_header)},
        writes=True,
        mends=True,
    ),
    "fit": Loader(_make_fit, _load_fit, {FIT: _JSON}, writes=True, mends=True),
    "cache-list": Loader(
        _make_list,
        _list_cache,
        {f"cache/mapped/{name}/{name}": mutate for name in (HEADER, LOG)},
        mends=True,
    ),
}
