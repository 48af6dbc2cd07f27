"""Work that may hang: waited for with a progress bar, and given up once it shows no sign of life."""

import threading
import time
from collections.abc import Callable
from concurrent.futures import Future
from contextlib import suppress
from typing import Any, TypeVar

from tqdm.auto import tqdm

SECONDS = 10.0  # until a server must have answered a question
STALL_SECONDS = 30.0  # until the next byte of a download must have come
LOOK_SECONDS = 0.05  # between two looks at what goes on

T = TypeVar("T")


class Progress:
    """Signs of life of a piece of work, and the bytes that it has brought."""

    def __init__(self) -> None:
        self.last = time.monotonic()
        self._whole = self._part = 0

    def add(self, count: int = 0) -> None:
        """Note a sign of life, and how many bytes came with it."""
        self.last = time.monotonic()
        self._part += count

    def end(self, size: int) -> None:
        """Note that a file of this size is complete, however many of its bytes had to come."""
        self.last = time.monotonic()
        self._whole, self._part = self._whole + size, 0

    @property
    def bytes(self) -> int:
        """How many have come so far."""
        return self._whole + self._part

    def counter(self) -> type[tqdm]:
        """Return what huggingface_hub takes for a class of progress bars."""
        progress = self

        class Counter(tqdm):
            def __init__(self, *arguments: Any, **named: Any) -> None:
                super().__init__(*arguments, **{**named, "disable": True})

            def update(self, n: float | None = 1) -> bool | None:
                progress.add(int(n or 0))
                return None

        return Counter


def attend(work: Callable[[Progress], T], patience: float, label: str = "", total: int | None = None) -> T:
    """Return what a piece of work returns, with a progress bar, unless it shows no sign of life for too long.

    The work is done in a daemon thread, which is abandoned then: neither the look-up of a name nor a library
    that tries again and again can be interrupted.

    Raises
    ------
    TimeoutError
        After ``patience`` seconds without a sign of life.
    """
    progress = Progress()
    outcome: Future[T] = Future()

    def carry_out() -> None:
        try:
            outcome.set_result(work(progress))
        except BaseException as error:
            outcome.set_exception(error)

    threading.Thread(target=carry_out, daemon=True).start()
    shown = tqdm(
        total=total,
        desc=label,
        unit="B",
        unit_scale=True,
        delay=2,
        mininterval=5,
        leave=False,
        disable=not label,
    )
    with shown as bar:
        while not outcome.done():
            with suppress(TimeoutError):
                outcome.exception(LOOK_SECONDS)
            bar.update(progress.bytes - bar.n)
            if not outcome.done() and time.monotonic() - progress.last > patience:
                raise TimeoutError
    return outcome.result()
