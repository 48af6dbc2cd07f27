"""A common style for all figures, figures saved with their data, and tables of texts shown readably."""

import textwrap
from pathlib import Path
from typing import Any

import matplotlib.pyplot as plt
import pandas as pd
from matplotlib.figure import Figure
from pandas.io.formats.style import Styler

# Dark to light, so the order survives greyscale printing; dashes and markers distinguish the series too.
COLOURS = ("#08306b", "#b2182b", "#4393c3", "#f4a582", "#5aae61", "#969696")
DASHES = ("-", "--", "-.", ":", (0, (5, 1)), (0, (1, 1)))
MARKERS = ("o", "s", "^", "D", "v", "x")

# (colour, dash, marker) of a figure's n-th series
LINES = tuple(zip(COLOURS, DASHES, MARKERS, strict=True))

CHARACTERS = 12  # of a title that fit into an inch
LONGEST_WORD = 16  # characters that a table of texts keeps on one line

_STYLE: dict[Any, Any] = {
    "figure.figsize": (7.0, 3.6),
    "figure.dpi": 110,
    "figure.constrained_layout.use": True,
    "savefig.dpi": 160,
    "font.size": 10,
    "axes.titlesize": 10,
    "axes.titlelocation": "left",
    "figure.titlesize": 11,
    "figure.titleweight": "bold",
    "figure.labelsize": 10,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "axes.axisbelow": True,
    "grid.color": "#dddddd",
    "grid.linewidth": 0.6,
    "legend.frameon": False,
    "svg.fonttype": "none",  # keep text as text: small, searchable files
    "svg.hashsalt": "figures",  # identical figures give identical files
}


def use_style() -> None:
    """Set the style of all figures drawn from now on."""
    plt.rcParams.update(_STYLE)


def save(figure: Figure, data: pd.DataFrame, figure_dir: Path, name: str, title: str) -> None:
    """Give a figure its title; save it as SVG and PNG and its data as CSV: ``figure_dir/name.{svg,png,csv}``.

    Parameters
    ----------
    figure : matplotlib.figure.Figure
        The finished figure.
    data : pandas.DataFrame
        The numbers that it shows, in tidy form, one row per mark.
    figure_dir : Path
        Created if missing.
    name : str
        File name without extension.
    title : str
        The question that the figure answers, and what its marks are.

    Raises
    ------
    ValueError
        If the data are empty, or an axis with data has no label.
    """
    if data.empty:
        raise ValueError(f"figure {name!r}: its data are empty")
    for axes in figure.axes:
        # Colour bars and bare panels need no labels.
        bare = not axes.axison or axes.get_label() == "<colorbar>"
        lacking = [] if bare or not axes.has_data() else [which for which in "xy" if not _label(axes, which)]
        if lacking:
            panel = axes.get_title(plt.rcParams["axes.titlelocation"])
            raise ValueError(
                f"figure {name!r}: the {lacking[0]} axis of panel {panel!r} has no label; "
                f"allowed: set_{lacking[0]}label, also of a panel that shares it, or sup{lacking[0]}label"
            )
    width = int(CHARACTERS * figure.get_size_inches()[0])
    figure.suptitle(textwrap.fill(title, width), x=0.01, horizontalalignment="left")
    figure_dir.mkdir(parents=True, exist_ok=True)
    figure.savefig(figure_dir / f"{name}.svg", metadata={"Date": None, "Title": title})
    figure.savefig(figure_dir / f"{name}.png", metadata={"Title": title})
    data.to_csv(figure_dir / f"{name}.csv", index=False)


def _label(axes: plt.Axes, which: str) -> str:
    """Return the label of an axis, x or y: its own, of one that shares it, or of the figure; "" if none."""
    group = axes.get_shared_x_axes() if which == "x" else axes.get_shared_y_axes()
    labels = [getattr(other, f"get_{which}label")() for other in group.get_siblings(axes)]
    labels.append(getattr(axes.figure, f"get_sup{which}label")())
    return next((label for label in labels if label.strip()), "")


def as_text(texts: pd.DataFrame) -> Styler:
    """Style a table of texts: left-aligned and wrapped, HTML escaped, "(nothing)" for an empty text.

    Parameters
    ----------
    texts : DataFrame, (rows, columns)
        Texts of any origin; missing ones are left blank.
    """
    css = {"text-align": "left", "vertical-align": "top", "white-space": "pre-wrap", "font-size": "85%"}
    headings = {"selector": "th.col_heading", "props": "text-align: left"}
    style = texts.replace("", "(nothing)").style.format(escape="html", na_rep="")
    style = style.format_index(escape="html", axis="index").format_index(escape="html", axis="columns")
    return style.set_properties(**css).map(_wrapping).set_table_styles([headings])


def _wrapping(text: object) -> str:
    """Return the CSS by which a cell's words are broken.

    A column is as wide as its longest word, unless that may be broken anywhere: then a table with a text that
    is one long word is no wider than the page. Where no word is long, none is broken to narrow a column.
    """
    longest = max(map(len, str(text).split()), default=0)
    return f"overflow-wrap: {'anywhere' if longest > LONGEST_WORD else 'break-word'}"
