"""Where torch runs: CPU or CUDA, one dtype, one thread; the only place that asks for CUDA.

The engine needs no torch and runs on the CPU. Torch is loaded for what the engine lacks, and where a CUDA device is
worth it: for the n^3 work of a long history, of which a GPU takes more rows. Public: place, resolve, out_of_memory,
on_device, deterministic, give_back.
"""

from __future__ import annotations

import ctypes
import logging
import random
import sys
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from arqon_gp.errors import RequestError
from arqon_gp.threads import one_thread

if TYPE_CHECKING:
    import torch

log = logging.getLogger("arqon_gp")
T = TypeVar("T")
CUDA_ROWS = 500  # from so many rows on an H100 is quicker than the engine on the same rows (bench/gpu.py)
NVIDIA = Path("/proc/driver/nvidia/version")


def place(wanted: str, rows: int) -> str:
    """Where the surrogate of so many rows is to be fitted: "cpu" for the engine, else the name of a torch device.

    wanted: "auto" (CUDA where there is a device and the rows are many), "cpu" or "cuda:1"; RequestError if that is not
    there. Torch is not loaded to say "cpu".
    """
    if wanted == "cpu" or (wanted == "auto" and (rows < CUDA_ROWS or not _has_nvidia())):
        return "cpu"
    return str(resolve(wanted))


def resolve(wanted: str) -> torch.device:
    """The torch device of "auto" (CUDA where there is one), "cpu" or "cuda:1"; RequestError if it is not there."""
    import torch

    if wanted == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    found = torch.device(wanted)
    if found.type == "cuda" and not torch.cuda.is_available():
        raise RequestError(f'device {wanted!r}: torch finds no CUDA device; use "auto" or "cpu"')
    return found


def out_of_memory(error: Exception) -> bool:
    """Whether it says that the memory of a GPU is full."""
    torch = sys.modules.get("torch")
    return torch is not None and isinstance(error, torch.cuda.OutOfMemoryError)


def on_device(device: torch.device, run: Callable[[torch.device], T]) -> tuple[T, torch.device]:
    """The result of `run`, and where it ran: out of memory on the GPU is answered on the CPU in the same call."""
    import torch

    try:
        return run(device), device
    except torch.cuda.OutOfMemoryError as error:
        log.warning("out of memory on %s, going on on the CPU: %s", device, error)
    torch.cuda.empty_cache()
    cpu = torch.device("cpu")
    return run(cpu), cpu


@contextmanager
def deterministic(rng_seed: int) -> Iterator[None]:
    """One thread and fixed random streams of torch inside; the caller's threads and streams are as before afterwards.

    The libraries' numerical notes (jitter, line searches) are silenced: what counts is checked where it is used.
    """
    import torch

    threads, state = torch.get_num_threads(), random.getstate()
    devices = list(range(torch.cuda.device_count())) if torch.cuda.is_available() else []
    with torch.random.fork_rng(devices=devices), one_thread(), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.manual_seed(rng_seed)
        random.seed(rng_seed)
        torch.set_num_threads(1)
        try:
            yield
        finally:
            torch.set_num_threads(threads)
            random.setstate(state)
            give_back()


def give_back() -> None:
    """Return freed memory to the system: glibc would keep it, and a long run would look like a leak.

    Measured over 280 guarded steps by torch: 480 to 740 MiB resident without, 474 MiB flat with it (2026-11-24); the
    engine's keep 12 to 15 MiB that a growing history has let go (2026-11-26). One or two ms.
    """
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
    if trim is not None:
        trim(0)


@cache
def _has_nvidia() -> bool:
    return NVIDIA.exists()
