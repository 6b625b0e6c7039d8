"""What the machine can do at best: matrix products a second, and bytes a second from memory.

    python benchmarks/limits.py

Products are tried as large squares and in the model's own shapes, by torch's ordinary call and with weights packed for oneDNN; reading is
tried by several kernels over 1 GB, far more than any cache holds. The best of each is the limit.
"""

from __future__ import annotations

from typing import Any

import torch
from common import base_model, best_seconds, config_of, number_format, record, show
from flops import Decoder
from torch.nn.functional import linear

from stages.core.params import load

ROWS = 512  # tokens a product, as in a pass over prompts
SQUARE = 2048
READ_BYTES = 2**30


@torch.inference_mode()
def products(decoder: Decoder, dtype: torch.dtype) -> dict[str, float]:
    """GFLOP/s of each way to multiply."""
    shapes = {(SQUARE, SQUARE, SQUARE), *((ROWS, k, n) for k, n in [*decoder.linears, (decoder.width, decoder.words)])}
    found = {}
    for m, k, n in sorted(shapes):
        tokens, weight = torch.randn(m, k).to(dtype), torch.randn(n, k).to(dtype)
        packed = torch.ops.mkldnn._reorder_linear_weight(weight, m)
        work = 2e-9 * m * k * n
        found[f"{m} x {k} x {n}"] = work / best_seconds(lambda x=tokens, w=weight: linear(x, w))
        found[f"{m} x {k} x {n} packed"] = work / best_seconds(
            lambda x=tokens, w=packed: torch.ops.mkldnn._linear_pointwise(x, w, None, "none", [], "")
        )
    return found


@torch.inference_mode()
def reads() -> dict[str, float]:
    """GB/s of each way to go through `READ_BYTES`; a copy counts what it writes too."""
    numbers = torch.ones(READ_BYTES // 4)
    square = numbers.view(-1, 1024)
    vector, target = torch.ones(1024), torch.empty_like(numbers)
    gigabytes = READ_BYTES / 1e9
    return {
        "sum": gigabytes / best_seconds(numbers.sum),
        "dot": gigabytes / best_seconds(lambda: torch.dot(numbers, numbers)),
        "matrix x vector": gigabytes / best_seconds(lambda: torch.mv(square, vector)),
        "copy": 2 * gigabytes / best_seconds(lambda: target.copy_(numbers)),
    }


def limits(decoder: Decoder, dtype: torch.dtype) -> dict[str, float]:
    """The machine's `gemm_gflops` and `bandwidth_gbs`, measured now."""
    return {"gemm_gflops": max(products(decoder, dtype).values()), "bandwidth_gbs": max(reads().values())}


def main() -> None:
    decoder, dtype = Decoder.of(config_of(base_model())), number_format(load().engine)
    multiplied, read = products(decoder, dtype), reads()
    show(f"Matrix products, {dtype}", [{"product": name, "GFLOP/s": value} for name, value in multiplied.items()])
    show("Memory", [{"kernel": name, "GB/s": value} for name, value in read.items()])
    facts: dict[str, Any] = {
        "gemm_gflops": max(multiplied.values()),
        "bandwidth_gbs": max(read.values()),
        "products": multiplied,
        "reads": read,
    }
    record({"limits": facts}, {"dtype": str(dtype).removeprefix("torch."), "rows": ROWS, "read_bytes": READ_BYTES})


if __name__ == "__main__":
    main()
