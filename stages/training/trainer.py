"""One LoRA trainer, for the warm-up and for the students: TRL's SFTTrainer on conversations whose mask is made here.

The ids and labels come from `stages.chat`, so that loss falls on assistant tokens only and on exactly the ids the engine
produces. The base stays frozen in bf16; adapters train in fp32 under bf16 autocast and are saved in bf16.
"""

from __future__ import annotations

import json
import os
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from stages.chat import Encoded
from stages.training.pretrained import weights_digest


@dataclass(frozen=True)
class Recipe:
    """What determines a training run besides its data. `learning_rate` decays along a cosine after 5 % of warm-up."""

    epochs: int
    learning_rate: float
    batch_size: int
    r: int
    alpha: int
    dropout: float
    seed: int


class TrainingError(RuntimeError):
    """Training cannot start or went wrong: says why and what to do."""


def _dataset(examples: Sequence[Encoded]) -> Any:
    from datasets import Dataset

    for row, example in enumerate(examples):
        if not any(label != -100 for label in example.labels):
            raise TrainingError(f"training example {row} has no token that carries loss")
    return Dataset.from_dict({"input_ids": [e.input_ids for e in examples], "labels": [e.labels for e in examples]})


def _config(recipe: Recipe, folder: str) -> Any:
    import torch
    from trl.trainer.sft_config import SFTConfig

    return SFTConfig(
        output_dir=folder,
        num_train_epochs=recipe.epochs,
        learning_rate=recipe.learning_rate,
        lr_scheduler_type="cosine",
        warmup_steps=0.05,
        per_device_train_batch_size=recipe.batch_size,
        # Nothing is cut in silence: what is too long was left out before, with its reason recorded.
        max_length=None,
        # Rows of like length share a batch: little padding, and memory that does not creep up.
        train_sampling_strategy="group_by_length",
        # Few different shapes: the allocator and the matrix kernels can use their memory again.
        pad_to_multiple_of=64,
        bf16=True,
        use_cpu=not torch.cuda.is_available(),
        gradient_checkpointing=False,
        seed=recipe.seed,
        data_seed=recipe.seed,
        logging_steps=5,
        logging_first_step=True,  # so that the shortest run has a curve
        save_strategy="no",
        report_to=[],
        disable_tqdm=None if os.isatty(2) else True,
    )


def train(base: Path, examples: Sequence[Encoded], recipe: Recipe, out: Path) -> list[dict[str, float]]:
    """Train an adapter on `base` and write it to `out` (adapter_config.json, adapter_model.safetensors in bf16).

    Returns the learning curve: a row each logged step with step, loss, learning_rate and tokens seen so far.
    """
    import torch
    from peft import LoraConfig
    from safetensors import SafetensorError
    from transformers import AutoModelForCausalLM, AutoTokenizer

    from stages.training.loss import SupervisedTrainer

    if not examples:
        raise TrainingError("no training examples")
    try:
        tokenizer = AutoTokenizer.from_pretrained(base)
        model = AutoModelForCausalLM.from_pretrained(base, dtype=torch.bfloat16)
    except (OSError, ValueError, RuntimeError, SafetensorError) as error:
        raise TrainingError(f"cannot load the model {base}: {error}; run `dvc repro`") from error
    lora = LoraConfig(
        r=recipe.r,
        lora_alpha=recipe.alpha,
        lora_dropout=recipe.dropout,
        target_modules="all-linear",
        task_type="CAUSAL_LM",
    )
    with tempfile.TemporaryDirectory() as folder:
        trainer = SupervisedTrainer(
            model=model,
            args=_config(recipe, folder),
            train_dataset=_dataset(examples),
            processing_class=tokenizer,
            peft_config=lora,
        )
        trainer.train()
        save_adapter(trainer.model, out)
    return trainer.curve


def save_adapter(model: Any, out: Path) -> None:
    """Write a PEFT adapter as bf16 safetensors, without the base's path (which differs from machine to machine)."""
    import torch
    from safetensors.torch import load_file, save_file

    model.save_pretrained(out)
    weights = out / "adapter_model.safetensors"
    save_file({k: v.to(torch.bfloat16) for k, v in sorted(load_file(weights).items())}, weights, {"format": "pt"})
    config = json.loads((out / "adapter_config.json").read_text(encoding="utf-8"))
    config["base_model_name_or_path"] = None
    config["target_modules"] = sorted(config["target_modules"])  # a set: its order changes from run to run
    (out / "adapter_config.json").write_text(json.dumps(config, indent=2, sort_keys=True) + "\n", encoding="utf-8")
    (out / "README.md").unlink(missing_ok=True)


def merge(base: Path, adapter: Path | None, out: Path) -> str:
    """Write `base`, with `adapter` added into its weights (in fp32, then rounded once to bf16), and its tokenizer to `out`.

    Returns the digest of the weights. Raises `TrainingError` when a folder holds no such thing.
    """
    import torch
    from peft import PeftModel
    from safetensors import SafetensorError
    from transformers import AutoModelForCausalLM, AutoTokenizer

    try:
        model: Any = AutoModelForCausalLM.from_pretrained(base, dtype=torch.float32)
        if adapter is not None:
            model = PeftModel.from_pretrained(model, adapter).merge_and_unload()
        tokenizer = AutoTokenizer.from_pretrained(base)
    except (OSError, ValueError, RuntimeError, SafetensorError) as error:
        raise TrainingError(f"cannot add {adapter} to {base}: {error}; run `dvc repro base`") from error
    model = model.to(torch.bfloat16)
    model.save_pretrained(out)
    tokenizer.save_pretrained(out)
    return weights_digest(model)
