"""A text with the relevance of its words, as HTML."""

import html
from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike

_FOR, _AGAINST = "0, 114, 178", "213, 94, 0"  # blue and vermilion, equally dark in greyscale


def heatmap_html(words: Sequence[str], relevance: ArrayLike, title: str = "") -> str:
    """Draw a text with its words' relevances as an HTML fragment; words and title are escaped.

    More relevant words are darker, also in greyscale; negative relevance is underlined with dots.

    Parameters
    ----------
    words : sequence of str, (words,)
    relevance : array, (words,)
        Shown relative to the text's largest magnitude; a word's tooltip gives the value.
    title : str
        Shown in bold before the text.

    Raises
    ------
    ValueError
        If the numbers of relevances and words differ, or a relevance is not finite.
    """
    relevance = np.asarray(relevance, dtype=float)
    if relevance.shape != (len(words),) or not np.isfinite(relevance).all():
        raise ValueError(
            f"relevance of shape {relevance.shape}: {len(words)} finite numbers are required, one per word"
        )
    largest = np.abs(relevance).max(initial=0) or 1.0
    spans = [_span(word, value, abs(value) / largest) for word, value in zip(words, relevance, strict=True)]
    heading = f"<b>{html.escape(title)}</b> " if title else ""
    style = "background: white; color: black; line-height: 1.8; padding: 0.3em"
    return f'<p style="{style}">{heading}{" ".join(spans)}</p>'


def _span(word: str, value: float, share: float) -> str:
    colour = _AGAINST if value < 0 else _FOR
    line = "; border-bottom: 2px dotted black" if value < 0 else ""
    # At most 75 % opaque: black letters stay readable.
    style = f"background: rgba({colour}, {0.75 * share:.2f}); padding: 0.1em{line}"
    return f'<span style="{style}" title="{value:+.4f}">{html.escape(word)}</span>'
