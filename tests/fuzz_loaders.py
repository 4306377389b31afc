"""Loaders of sets, data and networks, with good input for each and how that is damaged."""

import io
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image

import distilset
from distilset.card import Card
from distilset.catalogue import card_rows
from distilset.checkpoint import load_checkpoint, save_checkpoint
from distilset.config import build
from distilset.data import load_data
from distilset.data.decode import Encoded, decode_parts
from distilset.data.normalise import fit_transform
from distilset.evaluation.book import Book
from distilset.evaluation.judge import TrialResult
from distilset.exchange.exporting import FILES, write_export
from distilset.exchange.importing import read_set
from distilset.exchange.layouts import Where
from distilset.guard import Progress
from distilset.optimise import State
from distilset.reporting.collect import all_results, read_run
from distilset.reporting.formats import FORMATS
from distilset.reporting.page import Real, compose, to_html
from distilset.reporting.tables import tabulate
from distilset.stated import load_preset
from distilset.store import DistilledSet, zca_digest
from distilset.testing import drawn_images
from distilset.trained import load_network
from tests.mutations import either, mutate, mutate_header, mutate_json, mutate_member
from tests.reporting.runs import add_baseline, add_scores, make_run

SHAPE = (3, 8, 8)
TRAIN = drawn_images(SHAPE, (4, 4, 4))
IMAGE_FORMATS = ("PNG", "JPEG", "GIF", "WEBP", "BMP", "TIFF", "PPM")

Damage = Callable[[bytes, np.random.Generator], bytes]


@dataclass(frozen=True)
class Loader:
    """``make`` writes good input into a folder, ``damage`` says how each file is damaged.

    ``writes`` allows it to write there; one that ``mends`` makes anew what is damaged, or passes it
    over, and refuses nothing; of a slow one every n-th case is run.
    """

    make: Callable[[Path], None]
    load: Callable[[Path], object]
    damage: Mapping[str, Damage]
    writes: bool = False
    mends: bool = False
    every: int = 1


def _distilled(*, zca: bool = False, soft: bool = False) -> DistilledSet:
    transform = fit_transform(TRAIN, zca=zca)
    labels = torch.arange(3).repeat_interleave(2)
    card = Card(
        kind="distilled", dataset=replace(TRAIN.info, fingerprint="f"), classes=TRAIN.classes,
        method="dm", ipc=2, seed=0, steps=4, zca=zca_digest(transform.zca), image=SHAPE,
        notes=("a note",), versions={"torch": "2"},
    )  # fmt: skip
    if soft:
        labels = torch.nn.functional.one_hot(labels, 3).float() * 0.7 + 0.1
    pixels = torch.rand(6, *SHAPE, generator=torch.Generator().manual_seed(0))
    settings = build({"data": {"source": "digits"}}).tables()
    return DistilledSet(pixels, labels, card, transform, settings)


def _make_run(folder: Path) -> None:
    _distilled(zca=True, soft=True).save(folder / "run")


def _load_run(folder: Path) -> object:
    found = DistilledSet.load(folder / "run")
    return found.tensors(), found.spec, found.hard_labels, card_rows(found)


def _make_book(folder: Path) -> None:
    results = {trial: TrialResult(50.0 + trial, 1.0, "eager") for trial in range(3)}
    Book().append(folder / "scores.csv", "key", {"run": "a, b", "method": "=dm"}, results)


def _make_scored(folder: Path) -> None:
    run = make_run(folder / "run")
    add_scores(run, [50.0, 60.0])
    add_baseline(run, "whole", [95.0], ipc=None, protocol="whole")
    add_baseline(run, "random", [40.0, 41.0])


def _load_report(folder: Path) -> object:
    facts = read_run(folder / "run")
    table = tabulate(all_results([facts]))
    texts = [write(table) for write in FORMATS.values()]
    page = to_html(compose([facts], {facts.name: Real(None)}))
    "".join([*texts, page]).encode()
    return page


def _make_checkpoint(folder: Path) -> None:
    images = torch.rand(3, 1, 4, 4)
    kept = State(images / 2, {"momentum": images.clone()}, 2)
    save_checkpoint(
        folder, Progress(State(images, {"momentum": images * 2}, 3), 1.0, ("a note",), kept)
    )


def _make_settings(folder: Path) -> None:
    text = (folder / "run.toml").parent
    _distilled().save(text / "run")
    (text / "run" / "run.toml").rename(folder / "some.toml")


def _load_settings(folder: Path) -> object:
    return build(load_preset(str(folder / "some.toml")))


def _make_network(folder: Path) -> None:
    distilset.train_network(
        _distilled(zca=True), network="convnet:width=8,depth=2", epochs=1, device="cpu"
    ).save(folder / "net.safetensors")


def _load_network(folder: Path) -> object:
    return load_network(folder / "net.safetensors").scores(torch.zeros(1, *SHAPE))


def _pair() -> list[torch.Tensor]:
    return [torch.rand(6, *SHAPE), torch.arange(3).repeat_interleave(2)]


def _saved(thing: Callable[[], Any], **options: Any) -> Callable[[Path], None]:
    return lambda folder: torch.save(thing(), folder / "set.pt", **options)


def _experiments() -> dict[str, Any]:
    accuracies = {"ConvNet": [np.float64(0.5), np.float32(1)]}
    return {"data": [_pair(), _pair()], "accs_all_exps": accuracies}


def _make_two_files(folder: Path) -> None:
    images, labels = _pair()
    torch.save(images, folder / "images_best.pt")
    torch.save(torch.nn.Parameter(labels.float()), folder / "labels_best.pt")


def _exported(form: str, name: str, **options: Any) -> Callable[[Path], None]:
    return lambda folder: write_export(_distilled(**options), form, folder / name) and None


def _import(name: str, index: int | None = None) -> Callable[[Path], object]:
    def load(folder: Path) -> object:
        found = read_set(folder / name, TRAIN, where=Where(index))
        assert found.pixels.isfinite().all()
        return found

    return load


def _make_npz(folder: Path) -> None:
    images = TRAIN.images.permute(0, 2, 3, 1).numpy()
    labels = np.array(TRAIN.classes)[TRAIN.labels.numpy()]
    np.savez(folder / "data.npz", images=images, labels=labels, classes=np.array(TRAIN.classes))


def _load_npz(folder: Path) -> object:
    return load_data(folder / "data.npz", resolution=6)


def _make_images(folder: Path) -> None:
    pixels = TRAIN.images[0].permute(1, 2, 0).numpy()
    for form in IMAGE_FORMATS:
        buffer = io.BytesIO()
        Image.fromarray(pixels).save(buffer, format=form)
        (folder / f"x.{form.lower()}").write_bytes(buffer.getvalue())


def _load_images(folder: Path) -> object:
    """Decode the seven images among so many good ones that one or two may fail."""
    items = [(path.name, path.read_bytes()) for path in sorted(folder.iterdir())]
    good = next(content for name, content in items if name == "x.bmp")
    good = good if good[:2] == b"BM" else items[0][1]
    items += [("good", good)] * 40
    return decode_parts([Encoded(items, np.zeros(len(items), dtype=np.int64))], (8, 8), None)


def make_folders(folder: Path, each: int = 3) -> None:
    for name in ("a", "b"):
        (folder / "data" / name).mkdir(parents=True)
        for i, image in enumerate(TRAIN.images[:each]):
            picture = Image.fromarray(image.permute(1, 2, 0).numpy())
            picture.save(folder / "data" / name / f"{i}.png")


def _make_parquet(folder: Path) -> None:
    write_export(_distilled(soft=True), "parquet", folder / "set")


def _load_parquet(folder: Path) -> object:
    return load_data(folder / "set")


def _load_scores(folder: Path) -> object:
    return Book().read(folder / "scores.csv", "key")


def _load_list(folder: Path) -> object:
    return write_export(_distilled(), "imagefolder", folder / "set", overwrite=True)


_TENSORS = either(mutate, mutate_header)
_ARCHIVE = either(mutate, mutate_member, mutate_member)
_JSON = either(mutate, mutate_json)
_PARQUET = "set/data/train-00000-of-00001.parquet"

LOADERS: Mapping[str, Loader] = {
    "run": Loader(
        _make_run,
        _load_run,
        {
            "run/distilled.json": _JSON,
            "run/run.toml": mutate,
            "run/distilled.safetensors": _TENSORS,
            "run/transform.safetensors": _TENSORS,
        },
    ),
    "report": Loader(
        _make_scored,
        _load_report,
        {
            "run/metrics.jsonl": mutate,
            "run/scores.csv": mutate,
            "run/baselines.jsonl": mutate,
            "run/distilled.json": mutate_json,
        },
        every=4,
    ),
    "scores": Loader(_make_book, _load_scores, {"scores.csv": mutate}, mends=True),
    "checkpoint": Loader(_make_checkpoint, load_checkpoint, {"checkpoint.safetensors": _TENSORS}),
    "settings": Loader(_make_settings, _load_settings, {"some.toml": mutate}),
    "network": Loader(_make_network, _load_network, {"net.safetensors": _TENSORS}),
    "pair": Loader(_saved(_pair), _import("set.pt"), {"set.pt": _ARCHIVE}),
    "experiments": Loader(_saved(_experiments), _import("set.pt", 1), {"set.pt": _ARCHIVE}),
    "experiments-old": Loader(
        _saved(_experiments, _use_new_zipfile_serialization=False),
        _import("set.pt", 1),
        {"set.pt": mutate},
    ),
    "two-files": Loader(
        _make_two_files, _import("."), {"images_best.pt": _ARCHIVE, "labels_best.pt": _ARCHIVE}
    ),
    "own-pt": Loader(_exported("pt", "set.pt"), _import("set.pt"), {"set.pt": _ARCHIVE}),
    "own-npz": Loader(
        _exported("npz", "set.npz", soft=True), _import("set.npz"), {"set.npz": _ARCHIVE}
    ),
    "npz": Loader(_make_npz, _load_npz, {"data.npz": _ARCHIVE}),
    "parquet": Loader(_make_parquet, _load_parquet, {_PARQUET: mutate}),
    "soft-parquet": Loader(_make_parquet, _import("set"), {_PARQUET: mutate}),
    "images": Loader(
        _make_images, _load_images, {f"x.{form.lower()}": mutate for form in IMAGE_FORMATS}
    ),
    "folders": Loader(
        make_folders, lambda folder: load_data(folder / "data"), {"data/a/0.png": mutate}
    ),
    "export-list": Loader(
        _exported("imagefolder", "set"), _load_list, {f"set/{FILES}": _JSON}, writes=True
    ),
}
