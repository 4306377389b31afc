"""The matrix of scores: sets down, ways of training across."""

from collections.abc import Sequence
from dataclasses import dataclass

from distilset.card import labelled
from distilset.errors import plain
from distilset.reporting.collect import SETTING, Result
from distilset.reporting.marking import Mark, marks


@dataclass(frozen=True)
class Column:
    """One way of training and scoring: network, norm, protocol, epochs, labels, ..., split."""

    setting: tuple[str, ...]

    def __getitem__(self, name: str) -> str:
        return self.setting[SETTING.index(name)]

    @property
    def title(self) -> str:
        """Network and norm, the protocol with its epochs, and what is not the usual."""
        return f"{self['network']} {self['norm']}, {self.how}"

    @property
    def how(self) -> str:
        """The protocol with its epochs, and what is not the usual."""
        unusual = [
            text
            for text, said in (
                ("soft labels", self["labels"] == "soft"),
                ("8-bit PNG", self["pixels"] == "png"),
                ("not augmented", self["augmentation"] == "none"),
                (f"{self['split']} split", self["split"] != "test"),
            )
            if said
        ]
        return ", ".join((f"{self['protocol']} ({self['epochs']} epochs)", *unusual))


@dataclass(frozen=True)
class Cell:
    """A result in its column, and whether it is the best there beyond uncertainty."""

    result: Result
    mark: Mark = ""

    @property
    def text(self) -> str:
        """``mean ± std (n)`` in per cent; how many diverged, if any did."""
        n = len(self.result.accuracies)
        if self.result.diverged:
            return f"diverged ({self.result.diverged} of {n})"
        spread = f" ± {self.result.std:.2f}" if n > 1 else ""
        return f"{self.result.mean:.2f}{spread} ({n})"


@dataclass(frozen=True)
class Row:
    """One set of images and its cells, None where it was not scored that way."""

    name: str
    method: str
    dataset: str
    ipc: int | None
    images: int
    baseline: bool
    cells: tuple[Cell | None, ...]

    @property
    def ipc_text(self) -> str:
        """Images per class, or ``all``."""
        return "all" if self.ipc is None else str(self.ipc)


@dataclass(frozen=True)
class ScoreTable:
    """Rows of sets and columns of ways to train on them."""

    columns: tuple[Column, ...]
    rows: tuple[Row, ...]


def tabulate(results: Sequence[Result]) -> ScoreTable:
    """Arrange results: sets of the same data and images per class together, and marked there.

    Those in which several images are decoded from each stored one are marked among themselves.

    Training on the whole data has a schedule of its own and stands in a column of its own.
    """
    columns = tuple(dict.fromkeys(Column(tuple(r.setting.values())) for r in results))
    sets: dict[tuple[str, str, int | None, str, str, bool], dict[Column, Result]] = {}
    for result in results:
        key = (
            result.dataset,
            result.fingerprint,
            result.ipc,
            result.name,
            result.method,
            result.baseline,
        )
        sets.setdefault(key, {})[Column(tuple(result.setting.values()))] = result
    order = sorted(sets, key=lambda key: (*key[:2], key[2] is None, key[2] or 0))
    marked = _marks(results)
    rows = []
    for key in order:
        found = [sets[key].get(column) for column in columns]
        first = next(result for result in found if result is not None)
        cells = tuple(None if r is None else Cell(r, marked.get(id(r), "")) for r in found)
        rows.append(
            Row(plain(first.name), plain(labelled(first.method, first.factor)),
                plain(first.dataset), first.ipc, first.images, first.baseline, cells)
        )  # fmt: skip
    return ScoreTable(columns, tuple(rows))


def _marks(results: Sequence[Result]) -> dict[int, Mark]:
    """Return the marks of results by identity; each group of comparable ones by itself."""
    groups: dict[tuple[object, ...], list[Result]] = {}
    for result in results:
        if not result.reference and not result.diverged:
            key = (
                result.fingerprint,
                result.dataset,
                result.ipc,
                result.factor,
                *result.setting.values(),
            )
            groups.setdefault(key, []).append(result)
    return {
        id(result): mark
        for group in groups.values()
        for result, mark in zip(group, marks([r.accuracies for r in group]), strict=True)
    }
