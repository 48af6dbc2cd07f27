"""One style for every figure, and every figure saved with the data that it was drawn from."""

from pathlib import Path

import matplotlib.pyplot as plt
import pandas as pd
from matplotlib.figure import Figure
from pandas.io.formats.style import Styler

# Dark to light, so that the order survives a grey printer; dash and marker tell the series apart as well.
COLOURS = ("#08306b", "#b2182b", "#4393c3", "#f4a582", "#5aae61", "#bdbdbd")
DASHES = ("-", "--", "-.", ":", (0, (5, 1)), (0, (1, 1)))
MARKERS = ("o", "s", "^", "D", "v", "x")

# (colour, dash, marker) of the n-th series of a figure
LINES = tuple(zip(COLOURS, DASHES, MARKERS, strict=True))

_STYLE = {
    "figure.figsize": (7.0, 3.6),
    "figure.dpi": 110,
    "figure.constrained_layout.use": True,
    "savefig.dpi": 160,
    "font.size": 10,
    "axes.titlesize": 10,
    "axes.titlelocation": "left",
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "axes.axisbelow": True,
    "grid.color": "#dddddd",
    "grid.linewidth": 0.6,
    "legend.frameon": False,
    "svg.fonttype": "none",  # text stays text: small files that a reader can search
    "svg.hashsalt": "figures",  # the same figure gives the same file
}


def use_style() -> None:
    """Set the house style for every figure that follows."""
    plt.rcParams.update(_STYLE)


def save(figure: Figure, data: pd.DataFrame, figure_dir: Path, name: str) -> None:
    """Save a figure as SVG and PNG and its data as CSV: ``figure_dir/name.{svg,png,csv}``.

    Parameters
    ----------
    figure : matplotlib.figure.Figure
        The finished figure.
    data : pandas.DataFrame
        The numbers that it shows, tidy, one row a mark.
    figure_dir : Path
        Made if it is not there.
    name : str
        The files' name without an ending.

    Raises
    ------
    ValueError
        If there are no data, or an axis that shows data has no label.
    """
    if data.empty:
        raise ValueError(f"figure {name!r}: its data are empty")
    for axes in figure.axes:
        # A shared axis is labelled once, at the outer panel; a colour bar and a bare panel have no two axes.
        bare = not axes.axison or axes.get_label() == "<colorbar>"
        if not bare and axes.has_data() and not (_labelled(axes, "x") and _labelled(axes, "y")):
            raise ValueError(f"figure {name!r}: the axes {axes.get_title()!r} lack a label")
    figure_dir.mkdir(parents=True, exist_ok=True)
    figure.savefig(figure_dir / f"{name}.svg", metadata={"Date": None})
    figure.savefig(figure_dir / f"{name}.png")
    data.to_csv(figure_dir / f"{name}.csv", index=False)


def _labelled(axes: plt.Axes, which: str) -> bool:
    group = axes.get_shared_x_axes() if which == "x" else axes.get_shared_y_axes()
    return any(getattr(other, f"get_{which}label")() for other in group.get_siblings(axes))


def as_text(texts: pd.DataFrame) -> Styler:
    """Show a table of texts: to the left and wrapped, tags as they are, no text as a word.

    Parameters
    ----------
    texts : DataFrame, (rows, columns)
        Texts of any origin; their HTML is escaped.
    """
    css = {"text-align": "left", "vertical-align": "top", "white-space": "pre-wrap", "font-size": "85%"}
    css["overflow-wrap"] = "break-word"  # a text can be one long word
    headings = {"selector": "th.col_heading", "props": "text-align: left"}
    style = texts.replace("", "(nothing)").style.format(escape="html", na_rep="")
    return style.set_properties(**css).set_table_styles([headings])
