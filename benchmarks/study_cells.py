"""The cells of a study: from a grid's lists to settings, to lines of a CSV, to a folder's name."""

import csv
import hashlib
import itertools
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

WHAT = ("data", "method", "ipc", "factor", "norm", "zca", "power", "init", "network", "seed")
TRAINED = ("batch_real", "steps", "bank", "image_lr", "set", "val")
SCORED = ("split", "protocol", "trials", "judge")
SETTINGS = (*WHAT, *TRAINED, *SCORED)
SECONDS = ("distill_seconds", "evaluate_seconds")
ACCURACY = ("accuracies", "mean", "std")
MEASURED = (*SECONDS, *ACCURACY, "commit", "device", "threads", "precision")
COLUMNS: tuple[str, ...] = (*SETTINGS, *MEASURED)
DEFAULTS = {"factor": "1", "set": "", "judge": ""}
"""What a grid that does not name them has, and a line from before there were such columns.

``judge`` is the network that scores; empty, it is the one that distilled.
"""
POWERS = {
    "datadam": ("method.power",),
    "atom": ("method.spatial_power", "method.channel_power"),
}
"""The settings that a power is, for each method that has one."""
OWN = {
    "data.source": "data",
    "data.like": "like",
    "data.val": "val",
    "data.zca": "zca",
    "method.name": "method",
    "network.name": "network",
    "network.pool": "network",
    "network.norm": "norm",
    "engine.threads": "threads",
    **{
        f"distill.{name}": name
        for name in ("ipc", "factor", "init", "seed", "batch_real", "steps", "bank", "image_lr")
    },
}
"""The settings that ``set`` may not name, and the names that they have here."""
LONGEST = 200
"""Bytes of a folder's name; file systems allow 255, and what is made beside it adds some."""

Cell = dict[str, str]


def cells(grid: dict, stages: Sequence[str], data: str) -> Iterator[Cell]:
    """Yield the cells of the stages, as the CSV has them; each once."""
    known = [stage["name"] for stage in grid["stage"]]
    if unknown := set(stages) - set(known):
        raise SystemExit(f"unknown stages {sorted(unknown)}; the grid has {known}")
    seen = set()
    for stage in grid["stage"]:
        if stages and stage["name"] not in stages:
            continue
        axes = {key: value for key, value in {**grid["common"], **stage}.items() if key != "name"}
        lists = [value if isinstance(value, list) else [value] for value in axes.values()]
        for values in itertools.product(*lists):
            cell = _cell(dict(zip(axes, values, strict=True)), data)
            if tuple(cell.values()) not in seen:
                seen.add(tuple(cell.values()))
                yield cell


def _cell(values: dict, data: str) -> Cell:
    values = {name: value for name, value in values.items() if name != "like"}
    values = {"data": data, **DEFAULTS, **values}
    if values.get("method") not in POWERS:
        values["power"] = ""  # dm has none: one cell for all powers
    if wrong := set(values) ^ set(SETTINGS):
        raise SystemExit(f"a cell of the grid needs exactly {SETTINGS}; wrong: {sorted(wrong)}")
    values["set"] = free(values["set"], values["method"])
    return {name: _text(values[name]) for name in SETTINGS}


def _text(value: object) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)


def free(text: object, method: str = "") -> str:
    """Return free settings in the order of their names, so that equal ones are equal texts."""
    if not isinstance(text, str):
        raise SystemExit(f"set takes texts of section.key=value; got {text!r}")
    own = OWN | dict.fromkeys(POWERS.get(method, ()), "power")
    pairs: dict[str, str] = {}
    for word in text.split():
        key, equals, value = word.partition("=")
        section, _, name = key.partition(".")
        if not (section and name and equals and value):
            raise SystemExit(
                f"set takes section.key=value with blanks between, none inside; got {word!r}"
            )
        if key in own:
            raise SystemExit(
                f"set may not name {key}: that is {own[key]!r}, with a name of its own"
            )
        if key in pairs:
            raise SystemExit(f"set names {key} twice: {text!r}")
        pairs[key] = value
    return " ".join(f"{key}={value}" for key, value in sorted(pairs.items()))


def folder(cell: Cell) -> str:
    """Return the name of a cell's run folder: its values, and those added later if not usual.

    Cells that differ in how a set is scored have one folder.
    """
    names = [name for name in SETTINGS if name not in SCORED]
    words = [cell[name] or "none" for name in names if name not in DEFAULTS]
    added = [name for name, usual in DEFAULTS.items() if name in names and cell[name] != usual]
    words += [f"{name}={cell[name].replace(' ', ',')}" for name in added]
    name = "-".join(words).replace("/", "_")
    if len(name.encode()) <= LONGEST:
        return name
    digest = hashlib.sha256("\n".join(cell[name] for name in names).encode()).hexdigest()[:16]
    stem = name.encode()[: LONGEST - 1 - len(digest)].decode(errors="ignore")
    return f"{stem}-{digest}"


def told(cell: Cell, among: Sequence[Cell]) -> str:
    """Return the settings that tell a cell from others, and the first ones anybody asks for."""
    names = [
        name
        for name in SETTINGS
        if name in ("method", "ipc", "seed") or len({other[name] for other in among}) > 1
    ]
    return "  ".join(f"{name}={cell[name] or 'none'}" for name in names)


def rows_of(path: Path) -> list[Cell]:
    """Return the lines of the CSV, older ones with the usual values; none if there is no file."""
    if not path.exists():
        return []
    with path.open(encoding="utf-8", newline="") as file:
        reader = csv.DictReader(file)
        header = set(reader.fieldnames or ())
        if wrong := (header ^ set(COLUMNS)) - set(DEFAULTS):
            raise SystemExit(f"{path} needs exactly the columns {COLUMNS}; wrong: {sorted(wrong)}")
        rows = []
        for row in reader:
            if None in row or None in row.values():
                raise SystemExit(f"{path}: line {reader.line_num} has not as many values as names")
            rows.append({**DEFAULTS, **row})
    return rows


def append(path: Path, row: Cell) -> None:
    """Add a line to the CSV; one whose columns are not today's is written anew first."""
    header = path.read_text("utf-8").split("\n", 1)[0].strip() if path.exists() else ""
    if header != ",".join(COLUMNS):
        write(path, rows_of(path))
    with path.open("a", encoding="utf-8", newline="") as file:
        csv.DictWriter(file, COLUMNS, lineterminator="\n").writerow(row)


def write(path: Path, rows: Sequence[Mapping[str, str]]) -> None:
    """Write the CSV as a whole; what is there stays until all is written."""
    beside = path.with_name(path.name + ".new")
    with beside.open("w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, COLUMNS, lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)
    beside.replace(path)
