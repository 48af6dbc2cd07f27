"""Peak memory of a run: torch's own count on CUDA, the resident set of the process on a CPU."""

import threading
from types import TracebackType
from typing import Self

import psutil
import torch

SECONDS_BETWEEN_SAMPLES = 0.02


class PeakMemory:
    """A context that measures the peak memory of its body, in bytes (``bytes``, once it has ended).

    On a CPU the resident set is sampled. It includes what earlier runs of the same process left behind.
    """

    def __init__(self, *, on_cuda: bool) -> None:
        self.on_cuda = on_cuda
        self.bytes = 0
        self._ended = threading.Event()
        self._sampler = threading.Thread(target=self._sample, daemon=True)

    def __enter__(self) -> Self:
        if self.on_cuda:
            torch.cuda.reset_peak_memory_stats()
        else:
            self._sampler.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self.on_cuda:
            self.bytes = torch.cuda.max_memory_allocated()
        else:
            self._ended.set()
            self._sampler.join()

    def _sample(self) -> None:
        process = psutil.Process()
        ended = False
        while not ended:
            ended = self._ended.wait(SECONDS_BETWEEN_SAMPLES)  # true once: one last sample at the end
            self.bytes = max(self.bytes, process.memory_info().rss)
