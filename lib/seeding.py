"""Seeds, random streams, deterministic kernels, and fingerprints of results."""

import hashlib
import json
from collections.abc import Mapping
from typing import Any

import numpy as np
import torch

# Hex digits, i.e. 64 bits: accidental collisions are negligible among millions of runs.
FINGERPRINT_LENGTH = 16


def generator(seed: int, device: torch.device | str = "cpu") -> torch.Generator:
    """Return a separate PyTorch generator, from which nothing else draws."""
    return torch.Generator(device=device).manual_seed(seed)


def derive(seed: int, *names: str | int) -> int:
    """Return a seed for a named purpose, independent of the same seed's other purposes.

    The data order and the dropout of seed 3, for example, are separate streams: one can be varied while the
    other is held fixed.
    """
    digest = hashlib.sha256(json.dumps([seed, *names]).encode()).digest()
    return int.from_bytes(digest[:4], "big") >> 1  # 31 bits: accepted by all libraries


def set_deterministic(on: bool) -> None:
    """Require deterministic kernels of PyTorch, or allow others; cuDNN's choice by trial is off either way.

    On a CPU, the kernels used here are deterministic anyway for a fixed number of threads. On CUDA, this
    costs speed, and an operation without a deterministic kernel raises an error instead of differing
    silently. (The environment variable that cuBLAS needs is set when this package is imported.) New tensors
    are not filled first, as PyTorch would do by default: nothing here reads one before it is written, and on
    CUDA each filling is another kernel.
    """
    # the same flag as torch.use_deterministic_algorithms, which imports torch's compiler to set it there too
    torch.set_deterministic_debug_mode("error" if on else "default")
    torch.backends.cudnn.benchmark = False
    torch.utils.deterministic.fill_uninitialized_memory = False  # type: ignore[attr-defined]


def fingerprint(thing: Any) -> str:
    """Return a short hexadecimal hash, equal for contents that are equal to the bit.

    Parameters
    ----------
    thing : module, tensor, array, bytes, text, number, None, or a mapping or sequence of these
        A module is identified by its state dict: names, types, shapes and bytes. The order of a mapping does
        not matter.

    Raises
    ------
    TypeError
        For any other type; also for an array of Python objects.
    """
    digest = hashlib.sha256()
    _absorb(digest, thing)
    return digest.hexdigest()[:FINGERPRINT_LENGTH]


def _absorb(digest: "hashlib._Hash", thing: Any) -> None:
    """Feed ``thing`` to the hash, prefixed by its kind and length so that no two things look alike."""
    if isinstance(thing, torch.nn.Module):
        thing = thing.state_dict()
    if isinstance(thing, torch.Tensor):
        data = thing.detach().cpu().contiguous()
        digest.update(f"tensor {data.dtype} {tuple(data.shape)} ".encode())
        digest.update(data.flatten().view(torch.uint8).numpy().data)
    elif isinstance(thing, np.ndarray) and not thing.dtype.hasobject:  # whose bytes would be addresses
        digest.update(f"array {thing.dtype.str} {thing.shape} ".encode())
        digest.update(np.ascontiguousarray(thing).tobytes())
    elif isinstance(thing, Mapping):
        digest.update(f"mapping {len(thing)} ".encode())
        for key in sorted(thing, key=str):
            _absorb(digest, str(key))
            _absorb(digest, thing[key])
    elif isinstance(thing, bytes):
        digest.update(f"bytes {len(thing)} ".encode() + thing)
    elif isinstance(thing, str):
        encoded = thing.encode("utf-8", "surrogatepass")
        digest.update(f"text {len(encoded)} ".encode() + encoded)
    elif thing is None or isinstance(thing, bool | int | float | np.generic):
        digest.update(f"{type(thing).__name__} {thing!r} ".encode())
    elif isinstance(thing, list | tuple):
        digest.update(f"sequence {len(thing)} ".encode())
        for item in thing:
            _absorb(digest, item)
    else:
        raise TypeError(
            f"fingerprint of {type(thing).__name__}: allowed are modules, tensors, arrays, bytes, text, "
            "numbers, None, and mappings and sequences of these"
        )
