"""The data card of an exported folder: Markdown under the front matter that dataset hubs read."""

import html
import json
import re
from pathlib import Path

from distilset.files import write_text
from distilset.store import DistilledSet

Statistics = tuple[tuple[float, ...], tuple[float, ...]]

_SIZES = ((1_000, "n<1K"), (10_000, "1K<n<10K"), (100_000, "10K<n<100K"))
_LARGEST = "100K<n<1M"


def write_card(
    folder: Path,
    distilled: DistilledSet,
    load: str,
    *,
    parquet: bool = False,
    normalised: Statistics | None = None,
) -> None:
    """Write ``README.md``.

    ``load`` is Python that reads the folder at ``{path}``; ``parquet`` adds where the hub finds the
    data; ``normalised`` says by what the tensors in the folder are normalised already.
    """
    pieces = [
        _front_matter(distilled, parquet),
        f"# {plain(_title(distilled))}\n",
        _what(distilled),
        "## Load it\n",
        f"```python\n{load.replace('{path}', 'path/to/this/folder')}```\n",
        "## Normalise it\n",
        _normalising(distilled, normalised),
        "## Classes\n",
        _classes(distilled),
        "## Licence\n",
        "These images were made from those of the data set named above; its licence and terms "
        "apply to them. Name it, and this method, where you publish results.\n",
    ]
    write_text(folder / "README.md", "\n".join(pieces))


def plain(text: str) -> str:
    """Return text as Markdown that shows it as it is: no HTML, no links, one line."""
    shown = "".join(c if c.isprintable() else "\ufffd" for c in text)
    return re.sub(r"([\\`*_{}\[\]()#+.!|~-])", r"\\\1", html.escape(shown))


def quoted(text: str) -> str:
    """Return text as a quoted YAML string, with nothing in it that YAML does not allow."""
    shown = "".join(c if c.isprintable() else "\ufffd" for c in text)
    return json.dumps(shown, ensure_ascii=False)


def _title(distilled: DistilledSet) -> str:
    card = distilled.card
    what = "distilled" if card.kind == "distilled" else "selected"
    return f"{card.dataset.name}, {what} by {card.method}, {_per_class(distilled)} images per class"


def _per_class(distilled: DistilledSet) -> str:
    """Return the images of each class, and of how many stored ones they are."""
    count, stored = len(distilled) // len(distilled.classes), distilled.card.ipc
    return str(count) if count == stored else f"{count} (decoded from {stored} stored)"


def _front_matter(distilled: DistilledSet, parquet: bool) -> str:
    count = len(distilled)
    size = next((name for top, name in _SIZES if count < top), _LARGEST)
    lines = [
        "---",
        f"pretty_name: {quoted(_title(distilled))}",
        "license: other",
        "task_categories:",
        "- image-classification",
        "size_categories:",
        f"- {quoted(size)}",
        "tags:",
        "- dataset-distillation",
    ]
    return "\n".join([*lines, *(_layout(distilled) if parquet else ()), "---\n"])


def _layout(distilled: DistilledSet) -> list[str]:
    names = [f"          {quoted(str(i))}: {quoted(n)}" for i, n in enumerate(distilled.classes)]
    soft = ["  - name: soft_label", "    sequence: float32"]
    return [
        "configs:",
        "- config_name: default",
        "  data_files:",
        "  - split: train",
        "    path: data/train-*",
        "dataset_info:",
        "  features:",
        "  - name: img",
        "    dtype: image",
        "  - name: label",
        "    dtype:",
        "      class_label:",
        "        names:",
        *names,
        *(soft if distilled.labels.is_floating_point() else ()),
    ]


def _what(distilled: DistilledSet) -> str:
    card, labels = distilled.card, distilled.labels
    rows = {
        "data": card.dataset.name,  # not its source: a path of this machine is nobody's business
        "method": f"{card.method}, {card.steps} steps, seed {card.seed}",
        "network": f"{card.network}, norm {card.norm}",
        "images": f"{len(distilled)} of {distilled.spec} (channels, height, width)",
        "per class": _per_class(distilled),
        "labels": "probabilities of the classes" if labels.is_floating_point() else "class indices",
        **{f"note {i}": note for i, note in enumerate(card.notes, 1)},
    }
    lines = [f"| {name} | {plain(text)} |" for name, text in rows.items()]
    how = {
        "distilled": "Synthetic images on which networks learn what they would from all of them.",
        "selection": "Real images, picked by a rule.",
    }[card.kind]
    return "\n".join([how, "", "| | |", "|---|---|", *lines, ""])


def _normalising(distilled: DistilledSet, normalised: Statistics | None) -> str:
    mean, std = normalised or (distilled.transform.mean, distilled.transform.std)
    numbers = " and ".join(
        f"{name} {', '.join(f'{value:.4f}' for value in values)}"
        for name, values in (("mean", mean), ("std", std))
    )
    done = (
        f"`images.pt` is normalised by {numbers} per channel already; the PNG files are not."
        if normalised
        else f"Networks are to see pixels in 0 to 1, normalised by {numbers} per channel."
    )
    zca = (
        " The images were made for data that are whitened (ZCA) after that, and do worse without."
        if distilled.transform.zca is not None
        else ""
    )
    rounded = " PNG files hold 8 bits: values beyond black and white are cut off."
    return f"{done}{zca}{rounded}\n"


def _classes(distilled: DistilledSet) -> str:
    lines = [f"| {label} | {plain(name)} |" for label, name in enumerate(distilled.classes)]
    return "\n".join(["| label | class |", "|---|---|", *lines, ""])
