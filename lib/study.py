"""A study: what a notebook holds while it reproduces one paper."""

import tempfile
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import pandas as pd
from matplotlib.figure import Figure
from pandas.io.formats.style import Styler

from lib import claims, figures
from lib.claims import Verdict
from lib.intervals import Interval
from lib.runs import Record, Run, refusal, rests_on, sweep
from lib.settings import NotebookSettings, SettingsError
from lib.whole_folder import make_private


class Study:
    """One paper's claims, how its runs are carried out, where results go, and the ledger of verdicts.

    Every cell that uses it can be executed again, and in another order: records are found by what decides
    them, figures overwrite themselves, and verdicts are kept by the claim's name.

    Parameters
    ----------
    paper : int
        1, 2 or 3.
    settings : NotebookSettings
        The notebook's parameters.
    margin : float, optional
        The factor within which two quantities count as equal, for claims that need one (paper 2).

    Attributes
    ----------
    claims : dict of str to Claim
        In the order of the YAML file.
    published : dict
        The paper's published values.

    Raises
    ------
    SettingsError
        If the settings' ``cache_dir`` or ``figure_dir`` cannot be made or written.
    """

    def __init__(self, paper: int, settings: NotebookSettings, *, margin: float | None = None) -> None:
        _make_folder("cache_dir", settings.cache_dir, make_private)
        _make_folder("figure_dir", settings.figure_dir, partial(Path.mkdir, parents=True, exist_ok=True))
        self.paper, self.settings = paper, settings
        self.claims = claims.load_claims(paper, margin=margin)
        self.published = claims.published(paper)
        self._ledger: dict[str, Verdict] = {}
        self._conditions: dict[str, str] = {}
        self._refusal = ""
        figures.use_style()
        pd.set_option("display.max_colwidth", None)

    def sweep(
        self,
        runs: Sequence[Run],
        *,
        together: int = 1,
        workers: int | None = None,
        deterministic: bool | None = None,
        **inputs: Any,
    ) -> list[Record]:
        """Return one record per run, in their order: kept ones are read, the others carried out now.

        Parameters
        ----------
        runs : sequence of Run
            Each is called as ``run.carry_out(**inputs)``.
        together : int
            How many seeds are carried out as one computation.
        workers : int, optional
            How many runs at a time; the settings' number if not given.
        deterministic : bool, optional
            Whether to require deterministic kernels; as the settings say if not given.
        **inputs
            What all runs share, such as a corpus. A record is identified by their fingerprints too.

        Raises
        ------
        ValueError, TypeError, RecordNotKeptError
            As `lib.runs.sweep`.
        """
        settings = self.settings
        return sweep(
            runs,
            inputs,
            name=f"paper{self.paper}",
            cache_dir=settings.cache_dir,
            engine=settings.engine,
            workers=settings.workers if workers is None else workers,
            device=settings.torch_device.type,
            deterministic=settings.deterministic if deterministic is None else deterministic,
            together=together,
        )

    def rest_on(self, *sweeps: Sequence[Record]) -> str:
        """Let all verdicts rest on these records, and say how many of them are done.

        If fewer than the settings' ``min_finished`` are in any of the sweeps, whatever the others hold, every
        verdict from here on is "not testable". A sweep without any run counts only if there is no other.
        """
        counted = [records for records in sweeps if records] or [[]]
        refusals = (refusal(records, self.settings.min_finished) for records in counted)
        self._refusal = next(filter(None, refusals), "")
        return rests_on([record for records in sweeps for record in records])

    def require(self, condition: str, holds: bool, otherwise: str) -> None:
        """Say whether a condition holds that claims require; call it before such a claim is judged.

        Parameters
        ----------
        condition : str
            Its name, as in the claims' ``requires``.
        holds : bool
            Whether it holds at this scale.
        otherwise : str
            Why claims that require it cannot be tested where it does not hold.

        Raises
        ------
        KeyError
            For a condition that no claim of the paper requires.
        """
        required = {name for claim in self.claims.values() for name in claim.requires}
        if condition not in required:
            allowed = ", ".join(sorted(required))
            raise KeyError(f"condition {condition!r} of paper {self.paper}; allowed: {allowed}")
        self._conditions[condition] = "" if holds else otherwise

    def judge(self, name: str, measured: Interval | None, reason: str = "") -> Verdict:
        """Judge a claim by a measurement, and enter the verdict into the ledger.

        Parameters
        ----------
        name : str
            The claim's name in ``lib/published/paper*.yaml``.
        measured : Interval or None
            What was measured; None if this scale cannot measure it.
        reason : str
            Why there is no measurement; required then.

        Raises
        ------
        KeyError
            For a claim that the paper does not make.
        ValueError
            Without a measurement and a reason, or if a condition that the claim requires was not checked.
        """
        if name not in self.claims:
            raise KeyError(f"claim {name!r} of paper {self.paper}; allowed: {', '.join(self.claims)}")
        claim = self.claims[name]
        unchecked = [condition for condition in claim.requires if condition not in self._conditions]
        if unchecked:
            raise ValueError(f"claim {name!r} requires {unchecked[0]!r}, which has not been checked yet")
        reasons = [self._refusal, *(self._conditions[condition] for condition in claim.requires)]
        refused = "; ".join(filter(None, reasons))
        self._ledger[name] = claims.judge(claim, None if refused else measured, refused or reason)
        return self._ledger[name]

    def table(self, *names: str) -> Styler:
        """Return the verdicts on some claims as a table for reading; without names, on all of them."""
        chosen = [self._ledger[name] for name in names] if names else self._verdicts()
        return figures.as_text(claims.verdict_table(chosen)).hide()

    def verdicts(self) -> Styler:
        """Return the closing table, in the claims' order, and save ``verdicts.csv`` beside the figures."""
        folder = self.settings.figure_dir
        folder.mkdir(parents=True, exist_ok=True)
        claims.verdict_csv_table(self._verdicts()).to_csv(folder / "verdicts.csv", index=False)
        return self.table()

    def count(self) -> str:
        """Return how many verdicts there are of each kind, in one line."""
        return claims.count_verdicts(self._verdicts())

    def false_verdicts(self, confidence: float) -> str:
        """Say how many claims were measured, and how many of them would pass by chance if all were false.

        See `lib.claims.false_verdicts`.
        """
        return claims.false_verdicts(self._verdicts(), confidence)

    def save(self, figure: Figure, data: pd.DataFrame, name: str, title: str) -> None:
        """Save a figure under its title, and the data behind it, as ``name.svg``, ``name.png``, ``name.csv``.

        Raises
        ------
        ValueError
            As `lib.figures.save`: without data, or with an axis that has no label.
        """
        figures.save(figure, data, self.settings.figure_dir, name, title)

    def _verdicts(self) -> list[Verdict]:
        """Return the verdicts so far, in the claims' order."""
        return [self._ledger[name] for name in self.claims if name in self._ledger]


def _make_folder(name: str, folder: Path, make: Callable[[Path], None]) -> None:
    """Make a folder that a parameter names, and check that files can be written there."""
    try:
        make(folder)
        with tempfile.TemporaryFile(dir=folder):
            pass
    except OSError as error:
        raise SettingsError(
            f"{name} = {str(folder)!r}: {error.strerror}; allowed: a folder that can be made and written"
        ) from error
