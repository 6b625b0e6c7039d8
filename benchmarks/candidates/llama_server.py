"""llama.cpp's server, until it is killed: `python llama_server.py GGUF NAME PORT SLOTS CONTEXT THREADS`."""

from __future__ import annotations

import sys
import threading

import xllamacpp


def main() -> None:
    model, name, *numbers = sys.argv[1:]
    port, slots, context, threads = map(int, numbers)
    params = xllamacpp.CommonParams()
    params.model.path, params.model_alias = model, {name}
    params.hostnames, params.port = ["127.0.0.1"], port
    params.n_parallel, params.n_ctx = slots, slots * context
    params.cpuparams.n_threads = params.cpuparams_batch.n_threads = threads
    params.verbosity = 0
    server = xllamacpp.Server(params)
    print(f"serving on {server.listening_address}", flush=True)
    threading.Event().wait()


if __name__ == "__main__":
    main()
