"""The program `launched` where accelerate takes gloo on a CPU for a GPU's backend: it allows FSDP there only, while torch's FSDP runs anywhere."""

from __future__ import annotations

import os
from typing import Any

import launched
from accelerate import PartialState
from accelerate.utils import DistributedType

from stages.training.launch import work

start = PartialState.__init__


def as_on_a_gpu(self: PartialState, cpu: bool = False, **settings: Any) -> None:
    start(self, cpu=False, **settings)


if __name__ == "__main__":
    os.environ["ACCELERATE_TORCH_DEVICE"] = "cpu"
    PartialState.__init__ = as_on_a_gpu
    PartialState._prepare_backend = lambda *_: ("gloo", DistributedType.MULTI_GPU)
    work(launched.main)
