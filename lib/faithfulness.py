"""How faithful explanations are: the scores of their curves, beside those of others or of a random order."""

from collections.abc import Mapping

import numpy as np
import pandas as pd

from lib.attribution import RANDOM
from lib.hiding import Curves
from lib.intervals import mean_interval

BETTER = {
    "comprehensiveness": "higher",
    "sufficiency": "lower",
    "deletion": "lower",
    "insertion": "higher",
}
"""The scores, and whether a faithful explanation has a higher or a lower one."""


def scores(explained: Curves) -> pd.DataFrame:
    """Return the scores of one explanation, one row per text and one column for each of `BETTER`.

    - comprehensiveness: the fall in probability when the most relevant tokens are hidden; sufficiency: the
      fall when only they are shown; both averaged over the shares up to one half (10, 20, ... 50 %), in the
      manner of ERASER (DeYoung et al. 2020), which removes tokens at other shares;
    - deletion and insertion: the areas under the two curves (Petsiuk et al. 2018).
    """
    whole = explained.deletion[:, :1]
    early = (explained.shares > 0) & (explained.shares <= 0.5)
    return pd.DataFrame(
        {
            "comprehensiveness": (whole - explained.deletion[:, early]).mean(axis=1),
            "sufficiency": (whole - explained.insertion[:, early]).mean(axis=1),
            "deletion": np.trapezoid(explained.deletion, explained.shares),
            "insertion": np.trapezoid(explained.insertion, explained.shares),
        }
    )


def compared_with(explained: Mapping[str, Curves], reference: str, confidence: float = 0.95) -> pd.DataFrame:
    """Compare every explanation's scores with those of a reference, such as a random order, text by text.

    Parameters
    ----------
    explained : mapping of str to Curves
        As returned by `lib.hiding.curves`; the random order is named ``random``.
    reference : str
        What the others are compared with. Only the random order itself is left out of the rows.
    confidence : float
        Coverage of the intervals.

    Returns
    -------
    DataFrame
        One row per other explanation and score: the ``mean`` over texts, that of the ``reference``, their
        ``difference`` with its interval from ``low`` to ``high`` (paired t), and which is ``better``, higher
        or lower.

    Raises
    ------
    ValueError
        If the reference is missing, or there are fewer than two texts.
    """
    if reference not in explained:
        raise ValueError(f"no explanation named {reference!r} among {', '.join(explained)}")
    those = scores(explained[reference])
    if len(those) < 2:
        raise ValueError(f"{len(those)} text: an interval requires two or more")
    rows = []
    for name, found in explained.items():
        if name in (reference, RANDOM):
            continue
        own = scores(found)
        for score, better in BETTER.items():
            difference = own[score] - those[score]  # (texts,)
            interval = mean_interval(difference, confidence)
            rows.append(
                {
                    "explanation": name,
                    "score": score,
                    "mean": own[score].mean(),
                    "reference": those[score].mean(),
                    "difference": interval.estimate,
                    "low": interval.low,
                    "high": interval.high,
                    "better": better,
                }
            )
    return pd.DataFrame(rows).set_index(["explanation", "score"])
