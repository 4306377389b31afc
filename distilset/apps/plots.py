"""One style for the plots of applications: PNG and SVG, in colours for the colour-blind too."""

from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING, Any

from distilset.files import write_bytes, write_text

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000", "#8C8C8C")
"""Okabe and Ito's colours (2008), those of low contrast on white last but the greys."""

MARKERS = "osD^vPX*"
"""A form beside every colour, for print in black and white."""

INK, SOFT = "#222222", "#DDDDDD"
DPI = 150


def figure(width: float = 6.4, height: float = 4.0, rows: int = 1, columns: int = 1) -> Any:
    """Return a figure (inches) and its axes, ``[rows, columns]``, in the common style.

    Without pyplot: no global state, no window, whatever backend is set.
    """
    from matplotlib.figure import Figure

    made = Figure(figsize=(width, height), layout="constrained", facecolor="white")
    axes = made.subplots(rows, columns, squeeze=False)
    for ax in axes.flat:
        style(ax)
    return made, axes


def style(ax: "Axes") -> None:
    """Give axes the common look: two spines, light rules behind what is drawn."""
    for side in ("top", "right"):
        ax.spines[side].set_visible(False)
    for side in ("left", "bottom"):
        ax.spines[side].set_color(INK)
    ax.grid(visible=True, color=SOFT, linewidth=0.8)
    ax.set_axisbelow(True)
    ax.tick_params(colors=INK, labelsize=9)


def colour(number: int) -> str:
    """Return the colour of the number-th thing that is shown, from 0."""
    return COLOURS[number % len(COLOURS)]


def marker(number: int) -> str:
    """Return the marker of the number-th thing that is shown, from 0."""
    return MARKERS[number % len(MARKERS)]


def plain(text: str) -> str:
    """Return a name so that no part of it is read as a formula."""
    return text.replace("$", r"\$")


def save(drawn: "Figure", folder: Path, name: str) -> list[Path]:
    """Write ``name.png`` and ``name.svg`` into a folder, whole or not at all; return their paths.

    The same figure gives the same bytes: no date, ids from a fixed salt; letters stay text.
    """
    from matplotlib import rc_context

    png, svg = folder / f"{name}.png", folder / f"{name}.svg"
    with rc_context({"svg.hashsalt": name, "svg.fonttype": "none"}):
        picture, text = BytesIO(), BytesIO()
        drawn.savefig(picture, format="png", dpi=DPI, metadata={"Software": None})
        drawn.savefig(text, format="svg", metadata={"Date": None, "Creator": None})
    write_bytes(png, picture.getvalue())
    write_text(svg, text.getvalue().decode("utf-8"))
    return [png, svg]
