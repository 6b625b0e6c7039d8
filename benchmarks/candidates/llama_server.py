"""llama.cpp's server, until it is killed: `python llama_server.py GGUF NAME PORT SLOTS CONTEXT THREADS`."""

from __future__ import annotations

import sys
import threading
from typing import Any

import xllamacpp


def parameters(model: str, slots: int, context: int, threads: int) -> Any:
    """llama.cpp's settings for the GGUF file `model`, with room for `slots` conversations of `context` tokens."""
    params = xllamacpp.CommonParams()
    params.model.path = model
    params.n_parallel, params.n_ctx = slots, slots * context
    params.cpuparams.n_threads = params.cpuparams_batch.n_threads = threads
    params.verbosity = 0
    return params


def main() -> None:
    model, name, *numbers = sys.argv[1:]
    port, slots, context, threads = map(int, numbers)
    params = parameters(model, slots, context, threads)
    params.model_alias, params.hostnames, params.port = {name}, ["127.0.0.1"], port
    server = xllamacpp.Server(params)
    print(f"serving on {server.listening_address}", flush=True)
    threading.Event().wait()


if __name__ == "__main__":
    main()
