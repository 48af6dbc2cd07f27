"""Marks that several figures share: the classes of texts in a plane."""

import numpy as np
from matplotlib.axes import Axes

from lib.figures import COLOURS


def draw_classes(
    axes: Axes, picture: np.ndarray, labels: np.ndarray, predicted: np.ndarray, names: list[str]
) -> None:
    """Draw texts in the plane, as the papers colour them: by class, and right or wrong.

    Parameters
    ----------
    axes : matplotlib.axes.Axes
        Drawn into; its axes get no ticks, since the plane of t-SNE has no unit.
    picture : array, (texts, 2)
        Where each text stands.
    labels, predicted : array of int, (texts,)
        Its class, told by colour and shape, and the predicted one: a wrong text is drawn open and larger.
    names : list of str
        The classes' names.
    """
    for label, (colour, marker) in enumerate(zip(COLOURS, ("o", "^"), strict=False)):
        for right in (True, False):
            chosen = (labels == label) & ((predicted == labels) == right)
            axes.scatter(
                *picture[chosen].T,
                s=12 if right else 30,
                marker=marker,
                facecolors=colour if right else "none",
                edgecolors=colour,
                linewidths=0.8,
                label=f"{names[label]}, {'right' if right else 'wrong'}",
            )
    axes.set(xticks=[], yticks=[], xlabel="t-SNE 1 (no unit)", ylabel="t-SNE 2 (no unit)")
