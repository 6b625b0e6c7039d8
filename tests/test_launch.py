"""Training by two processes: the same loss as by one, whole adapters, clear failures, nothing left behind."""

from __future__ import annotations

import json
import os
import pty
import random
import shutil
import signal
import subprocess
import sys
import termios
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import launched
import psutil
import pytest
import torch
import yaml
from accelerate.commands.config.config_args import load_config_from_file
from fake_study import lesson
from safetensors.torch import load_file
from structure import ROOT

from stages.core.params import Launch
from stages.core.records import Lesson, Message, write
from stages.models.conversation import IGNORED
from stages.training import launch as launching
from stages.training.launch import config, launch
from stages.training.trainer import TrainingError

pytest_plugins = ["tiny"]

RECIPE: dict[str, Any] = {
    "epochs": 2,
    "learning_rate": 2e-3,
    "schedule": "cosine",
    "warmup_ratio": 0.05,
    "weight_decay": 0.0,
    "label_smoothing": 0.0,
    "batch_size": 1,
    "accumulation": 1,
    "max_tokens": 512,
    "gradient_checkpointing": False,
    "quantize": "none",
    "lora": {"r": 4, "alpha": 8, "dropout": 0.0},
}
# Name of a run: how many examples, what its recipe changes, whether it is trained in fp32. With a multiple of 16 examples, or 9, one
# process with batches of two and two with batches of one draw the same examples at every step.
RUNS: dict[str, tuple[int, dict[str, Any], bool]] = {
    "plain": (16, {}, True),
    "accumulated": (16, {"accumulation": 2}, True),
    "checkpointed": (16, {"gradient_checkpointing": True}, True),
    "smoothed": (16, {"label_smoothing": 0.1}, True),
    "bf16": (16, {}, False),
    "uneven": (9, {"epochs": 1}, True),
    "dropout": (10, {"lora": {"r": 4, "alpha": 8, "dropout": 0.5}}, False),
    "4bit": (16, {"quantize": "4bit"}, False),
    "distilled": (16, {"learning_rate": 5e-4}, False),
    "distilled_exactly": (16, {"gradient_checkpointing": True}, True),
}


def conversation(number: int) -> tuple[list[int], list[int]]:
    """Ids and labels: of every two of like length, one trains on nearly all of its tokens and the other on two."""
    rng = random.Random(number)
    ids = [rng.randrange(200) for _ in range(60 + 9 * (number // 2) + number)]
    untrained = 8 if number % 2 else len(ids) - 2
    return ids, [IGNORED] * untrained + ids[untrained:]


def hinted(ids: list[int], labels: list[int]) -> tuple[list[int], list[int]]:
    """The same after a longer prompt."""
    return [65, 66, 67, 68, *ids], [IGNORED] * 4 + labels


def job(name: str, base: Path, out: Path, batch_size: int) -> dict[str, Any]:
    count, changes, exact = RUNS[name]
    talks = [conversation(number) for number in range(count)]
    paired = name.startswith("distilled")
    examples = [(*talk, *hinted(*talk)) for talk in talks] if paired else talks
    recipe = {**RECIPE, **changes, "batch_size": batch_size}
    told = {"base": str(base), "examples": examples, "paired": paired, "recipe": recipe, "exact": exact}
    return {**told, "out": str(out / name)}


def settings(processes: int = 2, **accelerate: Any) -> Launch:
    return Launch(processes=processes, accelerate=accelerate)


Trained = tuple[list[dict[str, float]], dict[str, torch.Tensor]]


def trained(folder: Path) -> Trained:
    return json.loads((folder / "curve.json").read_text()), load_file(folder / "adapter_model.safetensors")


@pytest.fixture(scope="module")
def room(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A folder, and workers that find the project and this folder's programs."""
    before = {
        number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGQUIT)
    }
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PYTHONPATH", f"{ROOT}{os.pathsep}{ROOT / 'tests'}")
        patch.setenv("OMP_NUM_THREADS", "1")
        yield tmp_path_factory.mktemp("launch")
    for number, handler in before.items():  # a launch puts its own in their place
        signal.signal(number, handler)


def jobs(folder: Path, base: Path, names: list[str]) -> str:
    folder.mkdir()
    (folder / "runs.json").write_text(json.dumps([job(name, base, folder, 1) for name in names]))
    return str(folder / "runs.json")


@pytest.fixture(scope="module")
def by_two(room: Path, tiny_llama: Path) -> Path:
    launch("launched", [jobs(room / "two", tiny_llama, list(RUNS))], settings())
    return room / "two"


@pytest.fixture(scope="module")
def by_two_sharded(room: Path, tiny_llama: Path) -> Path:
    def as_with_gpus(how: Launch) -> dict[str, Any]:
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr("torch.cuda.device_count", lambda: 2)
            return config(how)

    runs = jobs(room / "sharded", tiny_llama, ["bf16", "4bit", "distilled"])
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(launching, "config", as_with_gpus)
        launch("launched_fsdp", [runs], settings(distributed_type="FSDP"))
    return room / "sharded"


def by_one(name: str, base: Path, tmp_path: Path) -> Trained:
    """The same run by this process, with batches twice as large."""
    launched.run(job(name, base, tmp_path, 2))
    return trained(tmp_path / name)


def apart(one: dict[str, torch.Tensor], other: dict[str, torch.Tensor]) -> float:
    """Size of two adapters' difference in relation to their own."""
    assert one.keys() == other.keys()
    squares = [((one[n].float() - other[n].float()).square().sum(), one[n].float().square().sum()) for n in one]
    difference, size = map(sum, zip(*squares, strict=True))
    return float((difference / size) ** 0.5)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["plain", "accumulated", "checkpointed", "smoothed", "distilled_exactly"])
def test_two_processes_train_as_one_does_in_fp32(name: str, by_two: Path, tiny_llama: Path, tmp_path: Path) -> None:
    (curve, adapter), (alone, alone_adapter) = trained(by_two / name), by_one(name, tiny_llama, tmp_path)
    assert [row["loss"] for row in curve] == pytest.approx([row["loss"] for row in alone], rel=1e-5)
    for key in ("step", "learning_rate", "tokens"):
        assert [row[key] for row in curve] == [row[key] for row in alone]
    assert apart(adapter, alone_adapter) < 2e-3, "saved in bf16, whose steps are 4e-3"


@pytest.mark.slow
@pytest.mark.parametrize("name", ["bf16", "4bit", "distilled"])
def test_two_processes_train_as_one_does_up_to_bf16s_rounding(
    name: str, by_two: Path, tiny_llama: Path, tmp_path: Path
) -> None:
    (curve, adapter), (alone, alone_adapter) = trained(by_two / name), by_one(name, tiny_llama, tmp_path)
    losses, alone_losses = ([row["loss"] for row in rows] for rows in (curve, alone))
    assert losses[0] == pytest.approx(alone_losses[0], rel=1e-6), "before any step"
    assert losses == pytest.approx(alone_losses, rel=0.01)
    assert apart(adapter, alone_adapter) < 0.1


@pytest.mark.slow
@pytest.mark.parametrize("name", ["bf16", "4bit", "distilled"])
def test_sharded_training_gives_the_same_loss_and_a_whole_adapter(
    name: str, by_two_sharded: Path, tiny_llama: Path, tmp_path: Path
) -> None:
    (curve, adapter), (alone, alone_adapter) = trained(by_two_sharded / name), by_one(name, tiny_llama, tmp_path)
    assert [row["loss"] for row in curve] == pytest.approx([row["loss"] for row in alone], rel=0.01)
    assert [row["tokens"] for row in curve] == [row["tokens"] for row in alone]
    assert {n: t.shape for n, t in adapter.items()} == {n: t.shape for n, t in alone_adapter.items()}
    assert apart(adapter, alone_adapter) < 0.1


@pytest.mark.slow
def test_what_distillation_reached_is_measured_alike_by_any_number(
    by_two: Path, by_two_sharded: Path, tiny_llama: Path, tmp_path: Path
) -> None:
    for folder, name, near in ((by_two, "distilled_exactly", 1e-4), (by_two_sharded, "distilled", 0.05)):
        by_one(name, tiny_llama, tmp_path)
        found, alone = (json.loads((where / name / "kl.json").read_text()) for where in (folder, tmp_path))
        assert found == pytest.approx(alone, rel=near)
        assert found[1] < 0.95 * found[0]


@pytest.mark.slow
def test_checkpointing_changes_nothing_for_two_processes_either(by_two: Path) -> None:
    (curve, adapter), (frugal, frugal_adapter) = trained(by_two / "plain"), trained(by_two / "checkpointed")
    assert frugal == curve and apart(adapter, frugal_adapter) == 0


@pytest.mark.slow
def test_an_epochs_last_step_is_filled_up_from_its_first_one(by_two: Path, tiny_llama: Path, tmp_path: Path) -> None:
    lengths = [len(conversation(number)[0]) for number in range(9)]
    (curve, _), (alone, _) = trained(by_two / "uneven"), by_one("uneven", tiny_llama, tmp_path)
    assert curve[0]["loss"] == pytest.approx(alone[0]["loss"], rel=1e-5)
    assert alone[-1]["step"] == curve[-1]["step"] == 5
    assert alone[-1]["tokens"] == sum(lengths)
    assert curve[-1]["tokens"] == sum(lengths) + max(lengths), "the longest example comes first"


@pytest.mark.slow
def test_every_epoch_has_every_example_once_whatever_dropout_draws(by_two: Path) -> None:
    tokens = {row["step"]: row["tokens"] for row in trained(by_two / "dropout")[0]}
    whole = sum(len(conversation(number)[0]) for number in range(10))
    assert (tokens[5], tokens[10]) == (whole, 2 * whole)


def test_a_launch_is_what_accelerate_reads_from_its_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def read(how: Launch) -> Any:
        (tmp_path / "accelerate.yaml").write_text(yaml.safe_dump(config(how)))
        return load_config_from_file(str(tmp_path / "accelerate.yaml"))

    plain = read(settings())
    assert (plain.distributed_type.value, plain.num_processes, plain.main_process_port) == ("MULTI_GPU", 2, 0)
    monkeypatch.setattr("torch.cuda.device_count", lambda: 4)
    sharded = read(settings(4, distributed_type="FSDP", fsdp_config={"fsdp_offload_params": True}))
    assert (sharded.distributed_type.value, sharded.num_processes) == ("FSDP", 4)
    assert sharded.fsdp_config["fsdp_offload_params"] is True
    assert sharded.fsdp_config["fsdp_state_dict_type"] == "FULL_STATE_DICT"
    deep = read(settings(1, distributed_type="DEEPSPEED", deepspeed_config={"zero_stage": 3}))
    assert (deep.distributed_type.value, deep.num_processes) == ("DEEPSPEED", 1)
    assert deep.deepspeed_config == {"zero_stage": 3, "zero3_save_16bit_model": True}


@pytest.mark.parametrize(
    ("gpus", "how", "message"),
    [
        (0, settings(distributed_type="MULTI_CPU"), "MULTI_GPU, FSDP, DEEPSPEED expected, found 'MULTI_CPU'"),
        (0, settings(num_processes=4), "num_processes cannot stand here"),
        (0, settings(distributed_type="FSDP"), r"2 GPUs expected \(FSDP, one a process\), 0 found"),
        (2, settings(3), "3 GPUs expected .*, 2 found"),
        (0, settings(fsdp_confg={}), "no setting fsdp_confg"),
        (2, settings(distributed_type="FSDP", fsdp_config={"fsdp_shard": 1}), "no setting fsdp_config.fsdp_shard"),
        (
            2,
            settings(distributed_type="FSDP", fsdp_config={"fsdp_state_dict_type": "SHARDED_STATE_DICT"}),
            "FULL_STATE",
        ),
        (2, settings(distributed_type="FSDP", fsdp_config=["a"]), "fsdp_config: a mapping expected, found"),
    ],
)
def test_what_would_not_train_as_it_says_is_refused(
    gpus: int, how: Launch, message: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("torch.cuda.device_count", lambda: gpus)
    with pytest.raises(TrainingError, match=message):
        config(how)


STUDENT = Path("data/students/alfworld_react_sft_s0")


@pytest.fixture
def project(room: Path, tiny_llama: Path, tmp_path: Path) -> Path:
    """A project with lessons, a tiny base model and an older student, whose students are trained by two processes for a long time."""
    values = yaml.safe_load((ROOT / "params.yaml").read_text(encoding="utf-8"))
    values["launch"]["processes"] = 2
    values["students"]["alfworld"]["epochs"] = 5000
    (tmp_path / "params.yaml").write_text(yaml.safe_dump(values))
    shutil.copy(ROOT / "dvc.yaml", tmp_path)
    base = shutil.copytree(tiny_llama, tmp_path / "data" / "base" / "model")
    (base / "identity.json").write_text('{"source": "tiny", "weights_sha256": "abc"}')
    lessons = [lesson("sft", f"task{number}", "put") for number in range(8)]
    write(tmp_path / "data" / "lessons" / "alfworld_react_sft" / "lessons.parquet", Lesson, lessons)
    (tmp_path / STUDENT).mkdir(parents=True)
    (tmp_path / STUDENT / "old").touch()
    return tmp_path


def stage(project: Path, errors: int = subprocess.PIPE) -> subprocess.Popen[str]:
    command = ["stages.students", "--cell", "alfworld_react", "--arm", "sft", "--seed", "0"]
    return subprocess.Popen(
        [sys.executable, "-m", *command], cwd=project, stdout=subprocess.PIPE, stderr=errors, text=True
    )


def untouched(project: Path) -> bool:
    return [path.name for path in (project / STUDENT).parent.glob("*")] == [STUDENT.name] and [
        path.name for path in (project / STUDENT).iterdir()
    ] == ["old"]


@pytest.fixture
def terminal() -> Iterator[tuple[int, int]]:
    """A terminal's two ends: what it shows, and what programs write to."""
    shows, takes = pty.openpty()
    termios.tcsetwinsize(takes, (24, 120))
    yield shows, takes
    os.close(shows)


def until_it_trains(
    project: Path, terminal: tuple[int, int]
) -> tuple[subprocess.Popen[str], dict[str, psutil.Process]]:
    """The stage at a terminal, and its workers by their rank, when the terminal shows the first loss."""
    running = stage(project, errors=terminal[1])
    os.close(terminal[1])
    said = shown(terminal, until="loss=")
    assert "training:" in said and "loss=" in said, said
    children = psutil.Process(running.pid).children()
    return running, {rank: child for child in children if (rank := child.environ().get("RANK"))}


def shown(terminal: tuple[int, int], until: str = "") -> str:
    """What the terminal shows until it shows `until`, or until nobody is left to write to it."""
    said = ""
    while not until or until not in said:
        try:
            new = os.read(terminal[0], 1024)
        except OSError:  # Linux, when the last writer has ended
            break
        if not new:
            break
        said += new.decode(errors="replace")
    return said


@pytest.mark.slow
def test_a_launched_student_takes_the_old_ones_place(project: Path) -> None:
    text = (project / "params.yaml").read_text()
    (project / "params.yaml").write_text(text.replace("epochs: 5000", "epochs: 20"))
    said, errors = (running := stage(project)).communicate()
    assert running.returncode == 0, errors
    does, result = said.splitlines()
    assert does == "students alfworld_react sft 0: trains a student on lessons"
    assert result.startswith("students: alfworld_react_sft_s0: 8 lessons, last loss")
    assert sorted(path.name for path in (project / STUDENT).iterdir()) == ["adapter", "curve.jsonl", "student.json"]
    assert json.loads((project / STUDENT / "student.json").read_text())["base"] == "tiny@abc"
    curve = [json.loads(line) for line in (project / STUDENT / "curve.jsonl").read_text().splitlines()]
    assert curve[-1]["loss"] < curve[0]["loss"]


@pytest.mark.slow
def test_what_a_worker_cannot_do_is_said_once(project: Path) -> None:
    mute = lesson("sft", "task0", "put")
    mute.messages[:] = [Message("user", "task"), Message("assistant", "Action: go", False)]
    write(project / "data" / "lessons" / "alfworld_react_sft" / "lessons.parquet", Lesson, [mute])
    _, errors = (running := stage(project)).communicate()
    assert running.returncode == 1
    [line] = [line for line in errors.splitlines() if line.startswith("students:")]
    assert "of 2 (0 is the first) ended with exit code 1" in line
    assert line.endswith("TrainingError: no training examples")
    assert untouched(project)


@pytest.mark.slow
@pytest.mark.parametrize("rank", ["0", "1"])
def test_a_killed_worker_is_named_and_ends_the_others(rank: str, project: Path, terminal: tuple[int, int]) -> None:
    running, workers = until_it_trains(project, terminal)
    workers[rank].kill()
    errors = shown(terminal)
    assert running.wait() == 1
    assert f"students: process {rank} of 2 (0 is the first) ended with exit code -9: Signal 9 (SIGKILL)" in errors
    assert not any(worker.is_running() for worker in workers.values())
    assert untouched(project)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["SIGTERM", "SIGKILL"])
def test_no_worker_outlives_the_stage(name: str, project: Path, terminal: tuple[int, int]) -> None:
    running, workers = until_it_trains(project, terminal)
    running.send_signal(signal.Signals[name])
    errors = shown(terminal)
    running.communicate()
    psutil.wait_procs(workers.values(), timeout=30)
    assert not any(worker.is_running() for worker in workers.values())
    if name == "SIGTERM":
        assert (running.returncode, errors.splitlines()[-1]) == (1, "students: stopped by SIGTERM")
        assert untouched(project)
