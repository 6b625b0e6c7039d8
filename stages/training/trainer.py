"""One LoRA trainer, for the warm-up and for the students: TRL's SFTTrainer on conversations whose mask is made here.

The ids and labels come from `stages.models.conversation`, so that loss falls on assistant tokens only and on exactly the ids the engine
produces. The base stays frozen in bf16; adapters train in fp32 under bf16 autocast and are saved in bf16. On a processor that does not
multiply bf16 natively all is in fp32 until it is saved.
"""

from __future__ import annotations

import json
import math
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from stages.core.process import Fault
from stages.core.sections import Divergence, Training
from stages.models.conversation import Encoded
from stages.models.numbers import multiplies_bf16
from stages.models.weights import weights_digest
from stages.training.pairs import Pair

if TYPE_CHECKING:  # torch takes seconds to load
    from stages.training.loss import LoraTrainer, Objective

SAMPLE = 8
"""Pairs, at most, on which a distillation is measured before and after: four passes over each."""

Curve = list[dict[str, float]]


class TrainingError(Fault, RuntimeError):
    """Training cannot start or went wrong: says why and what to do."""


def _dataset(examples: Sequence[Encoded]) -> Any:
    from datasets import Dataset

    for row, example in enumerate(examples):
        if not any(label != -100 for label in example.labels):
            raise TrainingError(f"training example {row} has no token that carries loss")
    return Dataset.from_list(list(map(vars, examples)))


def _config(recipe: Training, seed: int, folder: str) -> Any:
    import torch
    from trl.trainer.sft_config import SFTConfig

    config = SFTConfig(
        output_dir=folder,
        num_train_epochs=recipe.epochs,
        learning_rate=recipe.learning_rate,
        lr_scheduler_type=recipe.schedule,
        warmup_steps=recipe.warmup_ratio,
        weight_decay=recipe.weight_decay,
        per_device_train_batch_size=recipe.batch_size,
        gradient_accumulation_steps=recipe.accumulation,
        remove_unused_columns=False,  # a pair has more than TRL knows
        # Nothing is cut in silence: what is too long was left out before, with its reason recorded.
        max_length=None,
        # Rows of like length share a batch: little padding, and memory that does not creep up.
        train_sampling_strategy="group_by_length",
        # Few different shapes: the allocator and the matrix kernels can use their memory again.
        pad_to_multiple_of=64,
        bf16=multiplies_bf16(),
        use_cpu=not torch.cuda.is_available(),
        gradient_checkpointing=recipe.gradient_checkpointing,
        ddp_find_unused_parameters=False,  # every adapter has its part in every loss
        seed=seed,
        data_seed=seed,
        logging_steps=5,
        logging_first_step=True,  # so that the shortest run has a curve
        save_strategy="no",
        report_to=[],
        disable_tqdm=True,  # training has a bar of its own
    )
    # A process has one GPU; more of them are for `launch`, and not for DataParallel, whose copies of a model would share one's loss.
    config._n_gpu = min(config.n_gpu, 1)
    return config


def _load(base: Path, quantize: str) -> tuple[Any, Any]:
    """The frozen base and its tokenizer. Raises `TrainingError` when the folder holds no such thing."""
    import torch
    from safetensors import SafetensorError
    from transformers import AutoModelForCausalLM, AutoTokenizer, BitsAndBytesConfig

    options: dict[str, Any] = {}
    if quantize == "4bit":
        quantization: Any = BitsAndBytesConfig
        options["quantization_config"] = quantization(
            load_in_4bit=True,
            bnb_4bit_quant_type="nf4",
            bnb_4bit_use_double_quant=True,
            bnb_4bit_compute_dtype=torch.bfloat16,
            bnb_4bit_quant_storage=torch.bfloat16,  # FSDP shards floats only; the numbers are the same
        )
    try:
        tokenizer = AutoTokenizer.from_pretrained(base)
        dtype = torch.bfloat16 if multiplies_bf16() else torch.float32
        return AutoModelForCausalLM.from_pretrained(base, dtype=dtype, **options), tokenizer
    except ImportError as error:
        raise TrainingError(
            f"quantize: {quantize} needs bitsandbytes, of the extra: pip install 'hintdistill[gpu]' ({error})"
        ) from error
    except (OSError, ValueError, RuntimeError, SafetensorError) as error:
        raise TrainingError(f"cannot load the model {base}: {error}; run `dvc repro`") from error


def train(base: Path, examples: Sequence[Encoded], recipe: Training, seed: int, out: Path) -> Curve:
    """Train an adapter on `base` and write it to `out` (adapter_config.json, adapter_model.safetensors in bf16).

    Returns the learning curve: a row each logged step with step, loss, learning_rate and tokens seen so far. Under `accelerate launch`
    every process trains on its share of each step, and the first one writes.
    """
    from stages.training.loss import supervise

    return _fit(base, examples, recipe, seed, out, supervise(recipe.label_smoothing)).curve


def distil(
    base: Path,
    pairs: Sequence[Pair],
    recipe: Training,
    seed: int,
    out: Path,
    divergence: Divergence,
    kl_clip: float | None,
) -> tuple[Curve, tuple[float, float]]:
    """The same on pairs, whose loss is `stages.training.loss.diverge`. Returns the curve, and the mean loss a trained token of `SAMPLE` pairs
    from all over, before training and after it.
    """
    from stages.training.loss import diverge

    trainer = _fit(base, pairs, recipe, seed, out, diverge(divergence, kl_clip))
    sample = pairs[:: math.ceil(len(pairs) / SAMPLE)]
    adapted: Any = trainer.model
    with adapted.disable_adapter():
        before = trainer.mean_loss(sample)
    return trainer.curve, (before, trainer.mean_loss(sample))


def _fit(
    base: Path, examples: Sequence[Encoded], recipe: Training, seed: int, out: Path, objective: Objective
) -> LoraTrainer:
    from peft import LoraConfig
    from transformers import PrinterCallback

    from stages.training.loss import LoraTrainer
    from stages.training.progress import Bar

    if not examples:
        raise TrainingError("no training examples")
    model, tokenizer = _load(base, recipe.quantize)
    lora = LoraConfig(
        r=recipe.lora.r,
        lora_alpha=recipe.lora.alpha,
        lora_dropout=recipe.lora.dropout,
        target_modules="all-linear",
        task_type="CAUSAL_LM",
    )
    with tempfile.TemporaryDirectory() as folder:
        trainer = LoraTrainer(
            objective,
            model=model,
            args=_config(recipe, seed, folder),
            train_dataset=_dataset(examples),
            processing_class=tokenizer,
            peft_config=lora,
        )
        trainer.remove_callback(PrinterCallback)
        trainer.add_callback(Bar())
        trainer.train()
        trainer.save_model(folder)  # gathers what is sharded; only the first process writes
        if trainer.is_world_process_zero():
            keep_adapter(Path(folder), out)
    return trainer


def keep_adapter(saved: Path, out: Path) -> None:
    """Write the PEFT adapter in `saved` to `out` as bf16 safetensors, without the base's path (which differs from machine to machine)."""
    import torch
    from safetensors.torch import load_file, save_file

    out.mkdir(parents=True, exist_ok=True)
    weights = load_file(saved / "adapter_model.safetensors")
    bf16 = {name: tensor.to(torch.bfloat16) for name, tensor in sorted(weights.items())}
    save_file(bf16, out / "adapter_model.safetensors", {"format": "pt"})
    config = json.loads((saved / "adapter_config.json").read_text(encoding="utf-8"))
    config["base_model_name_or_path"] = None
    config["target_modules"] = sorted(config["target_modules"])  # a set: its order changes from run to run
    (out / "adapter_config.json").write_text(json.dumps(config, indent=2, sort_keys=True) + "\n", encoding="utf-8")


def merge(base: Path, adapter: Path, out: Path) -> str:
    """Write `base`, with `adapter` added into its weights (in fp32, then rounded once to bf16), and its tokenizer to `out`.

    Returns the digest of the weights. Raises `TrainingError` when a folder holds no such thing.
    """
    import torch
    from peft import PeftModel
    from safetensors import SafetensorError
    from transformers import AutoModelForCausalLM, AutoTokenizer

    try:
        model: Any = AutoModelForCausalLM.from_pretrained(base, dtype=torch.float32)
        model = PeftModel.from_pretrained(model, adapter).merge_and_unload()
        tokenizer = AutoTokenizer.from_pretrained(base)
    except (OSError, ValueError, RuntimeError, SafetensorError) as error:
        raise TrainingError(f"cannot add {adapter} to {base}: {error}; run `dvc repro base`") from error
    model = model.to(torch.bfloat16)
    model.save_pretrained(out)
    tokenizer.save_pretrained(out)
    return weights_digest(model)
