"""Training by several processes of this machine: `accelerate launch` with the settings of `launch` in params.yaml.

The launching process is accelerate's launcher itself: it starts the workers, waits for them, and ends them all when one fails or when it is
ended itself. Workers run a module with the arguments they are given, each on its share of every step.
"""

from __future__ import annotations

import os
import signal
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import yaml

from stages.core.params import Launch
from stages.core.process import die_with_parent
from stages.training.trainer import TrainingError

DEFAULTS: dict[str, dict[str, Any]] = {
    # Started by torchrun. Without a GPU the trainer connects them by gloo (accelerate's MULTI_CPU would start them by MPI).
    "MULTI_GPU": {},
    "FSDP": {
        "fsdp_config": {
            "fsdp_version": 2,
            "fsdp_auto_wrap_policy": "TRANSFORMER_BASED_WRAP",
            "fsdp_state_dict_type": "FULL_STATE_DICT",  # an adapter is saved whole
        }
    },
    "DEEPSPEED": {"deepspeed_config": {"zero3_save_16bit_model": True}},  # likewise
}
"""Kinds of launch, as accelerate names them, with what its config file says unless `launch.accelerate` says otherwise."""

_OURS = ("compute_environment", "mixed_precision", "num_machines", "num_processes", "use_cpu")


def wanted(how: Launch) -> bool:
    """Whether training is launched, and not run in the stage's own process."""
    return how.processes > 1 or bool(how.accelerate)


def config(how: Launch) -> dict[str, Any]:
    """What accelerate's config file says. Raises `TrainingError` for settings that would not train as they say on this machine."""
    import torch

    given = how.accelerate
    kind = given.get("distributed_type", "MULTI_GPU")
    if kind not in DEFAULTS:
        raise TrainingError(f"launch.accelerate.distributed_type: {', '.join(DEFAULTS)} expected, found {kind!r}")
    if ours := sorted(set(_OURS) & set(given)):
        raise TrainingError(
            f"launch.accelerate: {', '.join(ours)} cannot stand here: launch.processes says how many train, on this machine, and the trainer in which format"
        )
    gpus = torch.cuda.device_count()
    if gpus < how.processes and (gpus or kind != "MULTI_GPU"):
        raise TrainingError(f"launch: {how.processes} GPUs expected ({kind}, one a process), {gpus} found")
    for name in DEFAULTS[kind]:
        if not isinstance(given.get(name) or {}, dict):
            raise TrainingError(f"launch.accelerate.{name}: a mapping expected, found {given[name]!r}")
    merged = {**given, **{name: {**default, **(given.get(name) or {})} for name, default in DEFAULTS[kind].items()}}
    _known(merged)
    if merged.get("fsdp_config", {}).get("fsdp_state_dict_type", "FULL_STATE_DICT") != "FULL_STATE_DICT":
        raise TrainingError(
            "launch.accelerate.fsdp_config.fsdp_state_dict_type: FULL_STATE_DICT expected, to save an adapter"
        )
    # Port 0 is any free one: stages may run side by side.
    fixed = {"num_processes": how.processes, "num_machines": 1, "main_process_port": 0}
    return {**merged, "distributed_type": kind, **fixed}


def _known(settings: dict[str, Any]) -> None:
    """Refuse names that accelerate does not know; of those inside a section it says nothing itself."""
    from accelerate.commands.config.config_args import ClusterConfig
    from accelerate.commands.launch import launch_command_parser

    options = vars(launch_command_parser().parse_args(["script"]))
    unknown = [name for name in settings if name not in ClusterConfig.__dataclass_fields__]
    for section in ("fsdp_config", "deepspeed_config"):
        unknown += [f"{section}.{name}" for name in settings.get(section) or {} if name not in options]
    if unknown:
        raise TrainingError(f"launch.accelerate: accelerate has no setting {', '.join(sorted(unknown))}")


def launch(module: str, arguments: Sequence[str], how: Launch) -> None:
    """Run `python -m module arguments` in `how.processes` processes that train together, and wait for them.

    The first one writes to the terminal; what the others say is kept only until they end. Raises `TrainingError` that names the process
    that failed.
    """
    from accelerate.commands.launch import launch_command, launch_command_parser
    from torch.distributed.elastic.multiprocessing.api import SignalException
    from torch.distributed.elastic.multiprocessing.errors import ChildFailedError

    settings = config(how)
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "accelerate.yaml"
        file.write_text(yaml.safe_dump(settings), encoding="utf-8")
        options = launch_command_parser().parse_args(
            ["--config_file", str(file), "--log_dir", folder, "--module", module, *arguments]
        )
        # An option of torchrun, which accelerate hands through without having it itself: both streams of all but the first.
        options.redirects = ",".join(f"{rank}:3" for rank in range(1, how.processes)) or "0"
        try:
            launch_command(options)
        except ChildFailedError as error:
            raise TrainingError(_failure(error.failures, how.processes, Path(folder))) from None
        except SignalException as error:
            raise TrainingError(f"stopped by {error.sigval.name}") from None
        except (ValueError, ImportError) as error:
            raise TrainingError(f"accelerate cannot launch what launch.accelerate says: {error}") from error


def _failure(failures: dict[int, Any], processes: int, logs: Path) -> str:
    """Which process failed, and its last words. The others fail of it: they lose touch and raise, or are ended by SIGTERM."""

    def order(rank: int) -> tuple[bool, bool, int]:
        failure = failures[rank]
        return failure.exitcode == -signal.SIGTERM, isinstance(failure.message, dict), failure.timestamp

    rank = min(failures, key=order)
    failure, said = failures[rank], failures[rank].message
    if isinstance(said, dict):
        reason = str(said["message"])
    else:
        log = "".join(path.read_text(errors="replace") for path in logs.glob(f"**/{rank}/stderr.log"))
        reason = "\n".join([said, *log.splitlines()[-5:]])
    return f"process {rank} of {processes} (0 is the first) ended with exit code {failure.exitcode}: {reason}"


def work(task: Callable[[], None]) -> None:
    """Run `task` as a launched process's part, with a GPU of its own if there are any. What it raises is also told the launching process."""
    import torch
    from accelerate import PartialState
    from torch.distributed.elastic.multiprocessing.errors import record

    die_with_parent()

    @record
    def joined() -> None:
        # Before a model is loaded: 4-bit weights go to the current GPU, and under FSDP only the first process reads them all.
        PartialState(cpu=not torch.cuda.is_available())
        task()

    joined()


def is_first() -> bool:
    """Whether this process is the one that writes: the only one, or the first of those launched."""
    return os.environ.get("RANK", "0") == "0"
