"""Tables whose cells are sentences, shown in a notebook so that they can be read."""

import pandas as pd
from pandas.io.formats.style import Styler


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
