"""One HTML file that needs nothing else: no network, no other file."""

import base64
import hashlib
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from importlib import resources
from pathlib import Path
from typing import Any

import distilset
from distilset.card import labelled
from distilset.catalogue import card_rows
from distilset.errors import plain
from distilset.files import write_text
from distilset.reporting.applications import AppFacts
from distilset.reporting.charts import Chart, cost_charts, loss_chart
from distilset.reporting.collect import RunFacts, all_results
from distilset.reporting.marking import RULE
from distilset.reporting.pictures import ClassRow, class_rows, data_uri, png_bytes
from distilset.reporting.published import Comparison, beside_published
from distilset.reporting.scales import seconds_text
from distilset.reporting.tables import Column, Row, ScoreTable, tabulate
from distilset.types import ImageSet

_SPELLED = {"datadam": "DataDAM", "frepo": "FRePo"}

FIRST_CLASSES = 20
"""Classes that are shown before "more" is pressed."""


@dataclass(frozen=True)
class Real:
    """The training part that a run was made from, or the reason why it is not at hand."""

    train: ImageSet | None
    reason: str = ""


@dataclass(frozen=True)
class RunView:
    """A run as the page shows it."""

    facts: RunFacts
    real: Real
    number: int

    @property
    def kind(self) -> str:
        """The word for one of its images."""
        return "selected" if self.facts.distilled.card.kind == "selection" else "synthetic"

    @property
    def method(self) -> str:
        """The method, as titles write it."""
        name = plain(self.facts.distilled.card.method)
        return name.upper() if name in ("dm", "atom", "mtt") else _SPELLED.get(name, name)

    @cached_property
    def classes(self) -> list[ClassRow]:
        """The images, class by class."""
        return class_rows(self.facts.distilled, self.real.train, self.kind)

    @cached_property
    def chart(self) -> Chart | None:
        """The loss over time."""
        return loss_chart(self.facts)

    @property
    def card(self) -> list[tuple[str, ...]]:
        """What the card says."""
        return card_rows(self.facts.distilled)

    @property
    def settings(self) -> list[tuple[str, list[tuple[str, str]]]]:
        """The tables of ``run.toml``."""
        tables = self.facts.distilled.settings.items()
        return [(name, [(k, str(v)) for k, v in table.items()]) for name, table in tables]

    @property
    def cell(self) -> int:
        """The side of a shown image in CSS pixels; a few images are shown larger."""
        side = max(self.facts.distilled.spec.height, self.facts.distilled.spec.width)
        usual = 44 if side < 64 else 72 if side < 128 else 96
        return usual * 2 if self.facts.distilled.card.ipc <= 3 else usual

    @property
    def card_width(self) -> int:
        """How wide a class's card must be for its images in one row, in CSS pixels."""
        most = max((len(row.synthetic) for row in self.classes), default=1)
        return max(230, min(10, most) * (self.cell + 4) + 34)

    @cached_property
    def sizes(self) -> list[tuple[str, str, str]]:
        """Bytes of the images as floats and as PNG, against those of the real ones."""
        distilled, train = self.facts.distilled, self.real.train
        floats = distilled.pixels.numel() * distilled.pixels.element_size()
        compressed, scaled = png_bytes(distilled)
        about = "about " if scaled else ""
        real = None if train is None else train.images.numel()
        rows = [
            ("as 32-bit floats", size(floats), ratio(real, floats)),
            ("as 8-bit PNG", about + size(compressed), about + ratio(real, compressed)),
        ]
        if real is not None and train is not None:
            rows.append((f"{len(train):,} real images, as bytes per channel", size(real), "1"))
        return rows

    @property
    def stored(self) -> str:
        """How many images there are, and the factor if there is one."""
        distilled = self.facts.distilled
        return labelled(str(len(distilled.pixels)), distilled.card.factor)

    @property
    def reduction(self) -> str:
        """How many real images one of the set stands for; empty where that is not known."""
        train = self.real.train
        return "" if train is None else f"{len(train) / len(self.facts.distilled.pixels):,.0f}"

    @property
    def files(self) -> list[tuple[str, str]]:
        """The files of the run folder and their sizes."""
        return [(name, size(count)) for name, count in self.facts.files]

    @property
    def load_lines(self) -> str:
        """Python lines that load the set."""
        return (
            "import distilset as ds\n\n"
            f"distilled = ds.DistilledSet.load({str(self.facts.path)!r})\n"
            "images, labels = distilled.tensors()  # ready to train on"
        )

    @property
    def seconds(self) -> str:
        """The time of distilling."""
        return seconds_text(self.facts.distilled.card.seconds)

    @property
    def best(self) -> Any:
        """The result with the highest mean on the test part; None if there is none."""
        usable = [r for r in self.facts.results if not math.isnan(r.mean)]
        return max(usable, key=lambda r: r.mean, default=None)


@dataclass(frozen=True)
class Page:
    """All that the template needs."""

    title: str
    runs: Sequence[RunView]
    table: ScoreTable
    charts: Sequence[Chart]
    published: Sequence[Comparison]
    studies: Sequence[AppFacts] = ()
    rule: str = RULE
    version: str = distilset.__version__
    first_classes: int = FIRST_CLASSES

    @property
    def icon(self) -> str:
        """The first image of the first run, for the browser's tab; without a run, nothing."""
        from distilset.grid import to_bytes

        if not self.runs:
            return "data:,"
        return data_uri(to_bytes(self.runs[0].facts.distilled.pixels[:1].cpu())[0])

    def heads(self) -> Sequence[tuple[int, Column]]:
        """Return the table's columns of scores, numbered."""
        return list(enumerate(self.table.columns, 4))

    def label(self, row: Row) -> str:
        """Return a link to a row's run, or nothing."""
        return next((f"#run-{v.number}" for v in self.runs if v.facts.name == row.name), "")


def size(count: int) -> str:
    """Write a number of bytes.

    Example:
        >>> size(1234567)
        '1.2 MB'
    """
    for unit, one in (("GB", 1e9), ("MB", 1e6), ("kB", 1e3)):
        if count >= one:
            return f"{count / one:.1f} {unit}"
    return f"{count} bytes"


def ratio(real: int | None, ours: int) -> str:
    """Write how many times smaller ours is than the real images."""
    if real is None:
        return "unknown: the real data are not at hand"
    value = real / ours
    return f"{value:,.0f} times smaller" if value >= 10 else f"{value:.1f} times smaller"


def compose(
    runs: Sequence[RunFacts],
    real: Mapping[str, Real],
    title: str | None = None,
    studies: Sequence[AppFacts] = (),
) -> Page:
    """Put together what the page shows; ``real`` is by the run's name."""
    results = all_results(runs)
    views = [RunView(run, real[run.name], i + 1) for i, run in enumerate(runs)]
    return Page(
        title=plain(title or _title(views, studies)),
        runs=views,
        table=tabulate(results),
        charts=cost_charts(runs, results),
        published=beside_published(runs),
        studies=studies,
    )


def _title(views: Sequence[RunView], studies: Sequence[AppFacts]) -> str:
    if not views:
        return "; ".join(study.summary.title for study in studies)
    data = sorted({view.facts.distilled.card.dataset.name for view in views})
    if len(views) == 1:
        n = len(views[0].facts.distilled)
        return f"{data[0]} in {n} images"
    return f"{' and '.join(data)}, distilled {len(views)} ways"


def to_html(page: Page) -> str:
    """Write the page; every string of a run is escaped, and only our own script may run."""
    from jinja2 import Environment, FunctionLoader, StrictUndefined

    folder = resources.files("distilset.reporting") / "templates"
    environment = Environment(
        loader=FunctionLoader(lambda name: (folder / name).read_text("utf-8")),
        autoescape=True,
        undefined=StrictUndefined,
        finalize=_without_tricks,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    script = (folder / "page.js").read_text("utf-8")
    digest = base64.b64encode(hashlib.sha256(script.encode("utf-8")).digest()).decode("ascii")
    style = (folder / "page.css").read_text("utf-8")
    template = environment.get_template("page.html")
    return template.render(page=page, script=script, style=style, digest=digest)


def _without_tricks(value: Any) -> Any:
    """Keep text from turning its direction; lines stay lines."""
    if not isinstance(value, str) or hasattr(value, "__html__"):
        return value
    return "\n".join(map(plain, value.split("\n")))


def write_page(
    runs: Sequence[RunFacts],
    real: Mapping[str, Real],
    out: Path,
    title: str | None = None,
    studies: Sequence[AppFacts] = (),
) -> Path:
    """Write the report of runs and of applications as one HTML file, whole or not at all."""
    out.parent.mkdir(parents=True, exist_ok=True)
    write_text(out, to_html(compose(runs, real, title, studies)))
    return out
