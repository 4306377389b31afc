"""What there is, by name, and what a run's card says: rows of text for tables."""

from collections.abc import Callable, Mapping
from typing import Any

from distilset.formation import cut_into
from distilset.stated import load_preset, preset_found, preset_names, preset_title
from distilset.store import DistilledSet

Rows = list[tuple[str, ...]]


def _first_line(thing: Any) -> str:
    return (thing.__doc__ or "").strip().splitlines()[0]


def _methods() -> tuple[tuple[str, ...], Rows]:
    from distilset.methods import METHODS

    return ("method", "what it does"), [(name, _first_line(m)) for name, m in METHODS.items()]


def _selectors() -> tuple[tuple[str, ...], Rows]:
    from distilset.selectors import SELECTORS

    return ("selector", "what it picks"), [(name, _first_line(s)) for name, s in SELECTORS.items()]


def _networks() -> tuple[tuple[str, ...], Rows]:
    from distilset.models import NETWORKS, choices, options_of

    def shown(name: str, option: str, value: Any) -> str:
        allowed = choices(name, option)
        text = f"{option}={'by size' if value is None else value}"
        return f"{text} ({', '.join(allowed)})" if allowed else text

    rows: Rows = []
    for name in NETWORKS:
        options = [
            shown(name, key, value)
            for key, value in options_of(name).items()
            if len(choices(name, key)) != 1
        ]
        rows.append((name, ", ".join(options) or "none"))
    return ("network", "options, with their defaults"), rows


def _datasets() -> tuple[tuple[str, ...], Rows]:
    from distilset.data import KNOWN

    rows = [("digits", "scikit-learn", "8", "built in")]
    rows += [
        (name, known.hub_id, str(known.resolution or ""), _subset(known))
        for name, known in KNOWN.items()
        if name != "digits"
    ]
    return ("data set", "source", "pixels", "classes"), rows


def _subset(known: Any) -> str:
    return f"{len(known.class_subset)} of its classes" if known.class_subset else "all"


def _presets() -> tuple[tuple[str, ...], Rows]:
    rows = []
    for name in preset_names():
        method = str(load_preset(name).get("method", {}).get("name", ""))
        rows.append((name, method, preset_title(name), preset_found(name)))
    return ("preset", "method", "what it is", "what we found"), rows


def _protocols() -> tuple[tuple[str, ...], Rows]:
    from distilset.evaluation import PROTOCOLS

    return ("protocol", "what it is"), [(name, str(p)) for name, p in PROTOCOLS.items()]


CATALOGUES: Mapping[str, Callable[[], tuple[tuple[str, ...], Rows]]] = {
    "methods": _methods,
    "selectors": _selectors,
    "networks": _networks,
    "datasets": _datasets,
    "presets": _presets,
    "protocols": _protocols,
}


def catalogue(kind: str) -> tuple[tuple[str, ...], Rows]:
    """Return column names and rows for one of `CATALOGUES`."""
    return CATALOGUES[kind]()


def card_rows(distilled: DistilledSet) -> Rows:
    """Return what a card says, as name and text."""
    card = distilled.card
    data = card.dataset
    rows = [
        ("kind", card.kind),
        ("data", f"{data.name} ({data.source}), fingerprint {data.fingerprint}"),
        ("test part", _test_part(data)),
        ("classes", f"{len(card.classes)}: {', '.join(card.classes[:10])}"
         + (" ..." if len(card.classes) > 10 else "")),
        ("images", f"{len(distilled.pixels)} of {distilled.spec}, {card.ipc} per class"
         + cut_into(card.factor)),
        ("method", f"{card.method}, {card.steps} steps, seed {card.seed}"),
        ("network", f"{card.network}, norm {card.norm}"),
        ("transform", "normalised" + (" and whitened (ZCA)" if card.zca else "")),
        ("computed on", f"{card.device}, {card.precision}, {card.seconds:.1f} s"),
        ("versions", ", ".join(f"{k} {v}" for k, v in card.versions.items())),
    ]  # fmt: skip
    if data.skipped_count:
        rows.append(("left out", f"{data.skipped_count} unreadable files"))
    return rows + [("note", note) for note in card.notes]


def _test_part(data: Any) -> str:
    carved = f"carved by split seed {data.split_seed}" if data.test_part == "carved" else "official"
    return carved + (f"; {data.val_fraction:.0%} of train for validation" * bool(data.val_fraction))
