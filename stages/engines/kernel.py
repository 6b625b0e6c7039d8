"""Compiles this package's C++ for this processor at its first use, and calls it: attention, and what lies between matrix products.

Own code, since nothing that torch has reads blocks of keys and values of a ragged batch on a CPU: gathering them for its own attention costs
more than the attention. Norm and gate it has only as several operations, each of which goes over memory. The compiler is the one that
ALFWorld's installation needs as well.
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

from stages.core import files
from stages.core.files import atomic
from stages.engines.base import EngineFault

SOURCES = tuple(Path(__file__).with_name(name) for name in ("attention.cpp", "layers.cpp"))
HEADER = Path(__file__).with_name("vectors.h")
CACHE = files.CACHE / "kernels"
BLOCK = 64  # positions a block, as in attention.cpp
_TILE = 64  # columns that it works on at once
_FLAGS = ("-O3", "-march=native", "-fopenmp", "-fPIC", "-shared", "-std=c++17")


def padded(dim: int) -> int:
    """The width of a value row: the head's, rounded up to whole tiles."""
    return -(-dim // _TILE) * _TILE


@functools.cache
def _library() -> ctypes.CDLL:
    """The compiled sources; kept in .cache/kernels by sources, compiler and processor."""
    compiler = shutil.which("g++")
    if compiler is None:
        raise EngineFault("g++ is missing, and the embedded engine compiles its kernels: install a C++ compiler")
    # What `native` means here, so that a cache on a shared disk serves machines of several kinds.
    target = subprocess.run([compiler, "-march=native", "-Q", "--help=target"], capture_output=True).stdout
    text = b"".join(path.read_bytes() for path in (*SOURCES, HEADER))
    key = hashlib.sha256(text + target + " ".join(_FLAGS).encode()).hexdigest()
    path = CACHE / f"kernels-{platform.machine()}-{key[:16]}.so"
    if not path.is_file():
        with atomic(path) as temporary:
            command = [compiler, *_FLAGS, "-o", str(temporary), *map(str, SOURCES)]
            done = subprocess.run(command, capture_output=True, text=True)
            if done.returncode:
                raise EngineFault(f"the engine's kernels do not compile: {' '.join(command)}\n{done.stderr.strip()}")
    return ctypes.CDLL(str(path.resolve()))


def _call(name: str, dtype: torch.dtype, *arguments: Any) -> None:
    getattr(_library(), f"{name}_{str(dtype).removeprefix('torch.')}")(*arguments)


def _at(tensor: torch.Tensor) -> ctypes.c_void_p:
    return ctypes.c_void_p(tensor.data_ptr())


def attend(
    mixed: torch.Tensor,
    cos: torch.Tensor,
    sin: torch.Tensor,
    keys: torch.Tensor,
    values: torch.Tensor,
    stretches: torch.Tensor,
    tables: torch.Tensor,
    scale: float,
) -> torch.Tensor:
    """Turn new queries and keys by their positions, write keys and values into the pool, then let every token look at its own conversation
    up to itself.

    mixed [tokens, (heads + 2 kv heads) * dim]: queries, keys and values, of the pool's number format; cos and sin [tokens, dim / 2] in fp32;
    keys [blocks, kv heads, dim, BLOCK], values [blocks, kv heads, BLOCK, padded dim]; stretches [n, 4] int64: first row, its position,
    number of tokens, where in `tables` the conversation's block numbers begin; tables int64. All contiguous. Rows that no stretch holds come
    out as zeros. Returns [tokens, heads * dim].
    """
    _, kv_heads, dim, _ = keys.shape
    tokens, width = mixed.shape
    heads = width // dim - 2 * kv_heads
    out = mixed.new_zeros(tokens, heads * dim)
    tensors = (mixed, cos, sin, keys, values, out, tables, stretches)
    pointers = (ctypes.c_void_p * len(tensors))(*[t.data_ptr() for t in tensors])
    sizes = (ctypes.c_int64 * 5)(heads, kv_heads, dim, values.shape[3], len(stretches))
    _call("attend", mixed.dtype, pointers, sizes, ctypes.c_float(scale))
    return out


def norm(x: torch.Tensor, weight: torch.Tensor, epsilon: float) -> torch.Tensor:
    """Root mean square norm (Zhang and Sennrich, arXiv 1910.07467) of contiguous rows x [rows, width] by weight [width]."""
    out = torch.empty_like(x)
    rows, width = (ctypes.c_int64(size) for size in x.shape)
    _call("norm", x.dtype, _at(x), _at(weight), _at(out), rows, width, ctypes.c_float(epsilon))
    return out


def gate(x: torch.Tensor) -> torch.Tensor:
    """SiLU of the left half of contiguous rows x [rows, 2 * width] times their right half (SwiGLU, Shazeer, arXiv 2002.05202)."""
    rows, width = x.shape[0], x.shape[1] // 2
    out = x.new_empty(rows, width)
    _call("gate", x.dtype, _at(x), _at(out), ctypes.c_int64(rows), ctypes.c_int64(width))
    return out
