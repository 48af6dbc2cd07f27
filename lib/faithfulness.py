"""How faithful explanations are: the scores of their curves beside those of a random order."""

from collections.abc import Mapping

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


def against_random(explained: Mapping[str, Curves], confidence: float = 0.95) -> pd.DataFrame:
    """Compare every explanation's scores with those of the random order, on the same texts.

    Parameters
    ----------
    explained : mapping of str to Curves
        As returned by `lib.hiding.curves`; the random order is named ``random``.
    confidence : float
        Coverage of the intervals.

    Returns
    -------
    DataFrame
        One row per explanation and score: the ``mean`` over texts, the random order's mean (``random``),
        their ``difference`` with its interval from ``low`` to ``high`` (paired t), and which is
        ``better``, higher or lower.

    Raises
    ------
    ValueError
        If the random order is missing, or there are fewer than two texts.
    """
    if RANDOM not in explained:
        raise ValueError(
            f"no explanation named {RANDOM!r} among {', '.join(explained)}: the random order is required"
        )
    chance = explained[RANDOM].scores()
    if len(chance) < 2:
        raise ValueError(f"{len(chance)} text: an interval requires two or more")
    rows = []
    for name, found in explained.items():
        if name == RANDOM:
            continue
        scores = found.scores()
        for score, better in BETTER.items():
            difference = scores[score] - chance[score]  # (texts,)
            interval = mean_interval(difference, confidence)
            rows.append(
                {
                    "explanation": name,
                    "score": score,
                    "mean": scores[score].mean(),
                    "random": chance[score].mean(),
                    "difference": interval.estimate,
                    "low": interval.low,
                    "high": interval.high,
                    "better": better,
                }
            )
    return pd.DataFrame(rows).set_index(["explanation", "score"])
