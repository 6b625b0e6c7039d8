"""Compiles attention.cpp for this processor at its first use, and calls it.

Own code, since nothing that torch has reads blocks of keys and values of a ragged batch on a CPU: gathering them for its own attention costs
more than the attention. The compiler is the one that ALFWorld's installation needs as well.
"""

from __future__ import annotations

import ctypes
import functools
import hashlib
import platform
import shutil
import subprocess
from pathlib import Path
from typing import Any

import torch

from stages.engines.base import EngineFault
from stages.files import atomic

SOURCE = Path(__file__).with_name("attention.cpp")
CACHE = Path(".cache/kernels")
BLOCK = 64  # positions a block, as in attention.cpp
_TILE = 32  # columns that it works on at once
_FLAGS = ("-O3", "-march=native", "-fopenmp", "-fPIC", "-shared", "-std=c++17")


def padded(dim: int) -> int:
    """The width of a value row: the head's, rounded up to whole tiles."""
    return -(-dim // _TILE) * _TILE


@functools.cache
def _library() -> ctypes.CDLL:
    """The compiled source; kept in .cache/kernels by source, compiler and processor."""
    compiler = shutil.which("g++")
    if compiler is None:
        raise EngineFault("g++ is missing, and the embedded engine compiles its attention: install a C++ compiler")
    # What `native` means here, so that a cache on a shared disk serves machines of several kinds.
    target = subprocess.run([compiler, "-march=native", "-Q", "--help=target"], capture_output=True).stdout
    key = hashlib.sha256(SOURCE.read_bytes() + target + " ".join(_FLAGS).encode()).hexdigest()
    path = CACHE / f"attention-{platform.machine()}-{key[:16]}.so"
    if not path.is_file():
        with atomic(path) as temporary:
            command = [compiler, *_FLAGS, "-o", str(temporary), str(SOURCE)]
            done = subprocess.run(command, capture_output=True, text=True)
            if done.returncode:
                raise EngineFault(f"{SOURCE.name} does not compile: {' '.join(command)}\n{done.stderr.strip()}")
    return ctypes.CDLL(str(path.resolve()))


def attend(
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    keys: torch.Tensor,
    values: torch.Tensor,
    stretches: torch.Tensor,
    tables: torch.Tensor,
    scale: float,
) -> torch.Tensor:
    """Write new keys and values into the pool, then let every token look at its own conversation up to itself.

    query [heads, tokens, dim], key and value [kv heads, tokens, dim], all of the pool's number format; keys [blocks, kv heads, dim, BLOCK],
    values [blocks, kv heads, BLOCK, padded dim]; stretches [n, 4] int64: first row, its position, number of tokens, where in `tables` the
    conversation's block numbers begin; tables int64. Returns [tokens, heads, dim].
    """
    heads, tokens, dim = query.shape
    if query.stride(2) != 1 or key.stride(2) != 1 or value.stride(2) != 1:
        query, key, value = query.contiguous(), key.contiguous(), value.contiguous()
    out = query.new_empty(tokens, heads, dim)
    tensors = (query, key, value, keys, values, out, tables, stretches)
    pointers = (ctypes.c_void_p * len(tensors))(*[t.data_ptr() for t in tensors])
    steps: list[Any] = [step for t in (query, key, value) for step in t.stride()[:2]]
    sizes = (ctypes.c_int64 * 11)(heads, key.shape[0], dim, values.shape[3], len(stretches), *steps)
    name = f"attend_{str(query.dtype).removeprefix('torch.')}"
    getattr(_library(), name)(pointers, sizes, ctypes.c_float(scale))
    return out
