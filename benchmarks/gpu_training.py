"""What training a student takes on this GPU: memory, tokens a second, and how near that comes to the GPU's matrix products.

    python benchmarks/gpu_training.py [--models 7b 14b] [--quantize 4bit none] [--lengths 4096 8192] [--arms distilled on_policy]

Models have Qwen2.5's sizes and weights drawn at random, made in a temporary folder; lessons are random ids of one length, of which a share
is trained. Neither changes memory or speed. The recipe is that of the profile of the model's size, for ALFWorld. A run of one step is taken
off, so loading does not count. What does not fit the GPU gets a row that says so. Replaces these rows in gpu_training.json, by GPU.
"""

from __future__ import annotations

import argparse
import gc
import json
import random
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import torch
from common import best_seconds, faults_in_one_line, record, show
from flops import Decoder, training

from stages.commands import profile
from stages.core.params import PARAMS
from stages.core.process import Fault, hush_libraries
from stages.core.sections import Students
from stages.models.conversation import IGNORED, Encoded
from stages.training.pairs import Pair
from stages.training.trainer import distil, train

RESULTS = Path(__file__).with_name("gpu_training.json")
# Width, inner width, layers, heads, heads of keys and values: https://huggingface.co/Qwen/Qwen2.5-7B-Instruct and -14B-Instruct, config.json
SIZES = {"tiny": (128, 256, 2, 4, 2), "7b": (3584, 18944, 28, 28, 4), "14b": (5120, 13824, 48, 40, 8)}
WORDS = 152064
STEPS = 4
TRAINED = 0.15  # of a lesson's tokens; the rest is prompt and observations
KEYS = ("model", "quantize", "length", "arm")
HINTS = 128  # tokens that hints add to the teacher's prompt


def make_model(size: str, folder: Path) -> Decoder:
    """Write a model of these sizes with random bf16 weights, and a tokenizer that pads, to `folder`."""
    from tokenizers import Tokenizer
    from tokenizers.models import WordLevel
    from transformers import PreTrainedTokenizerFast, Qwen2Config, Qwen2ForCausalLM

    width, inner, layers, heads, kv_heads = SIZES[size]
    config = Qwen2Config(
        hidden_size=width,
        intermediate_size=inner,
        num_hidden_layers=layers,
        num_attention_heads=heads,
        num_key_value_heads=kv_heads,
        vocab_size=WORDS,
        max_position_embeddings=32768,
        tie_word_embeddings=False,
        dtype=torch.bfloat16,
    )
    torch.manual_seed(0)
    with torch.device("cuda"):
        model = Qwen2ForCausalLM._from_config(config, dtype=torch.bfloat16)
    model.save_pretrained(folder)
    tokenizer = Tokenizer(WordLevel({"<end>": 0}, unk_token="<end>"))
    PreTrainedTokenizerFast(tokenizer_object=tokenizer, pad_token="<end>", eos_token="<end>").save_pretrained(folder)
    return Decoder.of(config)


def lessons(number: int, length: int, arm: str) -> list[Encoded]:
    """Lessons of `length` random ids, the last `TRAINED` of them trained; pairs for the arm on_policy."""
    draw = random.Random(0)
    made: list[Encoded] = []
    for _ in range(number):
        ids = [draw.randrange(WORDS) for _ in range(length)]
        labels = [IGNORED if n < length * (1 - TRAINED) else token for n, token in enumerate(ids)]
        hints, unlabelled = [draw.randrange(WORDS) for _ in range(HINTS)], [IGNORED] * HINTS
        pair = Pair(ids, labels, hints + ids, unlabelled + labels)
        made.append(pair if arm == "on_policy" else Encoded(ids, labels))
    return made


def run(base: Path, examples: Sequence[Encoded], recipe: Students) -> float:
    """Seconds of a training run, whose peak of memory alone is kept."""
    gc.collect()  # the model of the run before, whose trainer refers to itself
    torch.cuda.empty_cache()
    torch.cuda.reset_peak_memory_stats()
    start = time.perf_counter()
    with tempfile.TemporaryDirectory() as folder:
        if isinstance(examples[0], Pair):
            distil(base, examples, recipe.distilling(), 0, Path(folder) / "adapter", recipe.on_policy.divergence, None)  # type: ignore[arg-type]
        else:
            train(base, examples, recipe, 0, Path(folder) / "adapter")
    torch.cuda.synchronize()
    return time.perf_counter() - start


def measure(base: Path, decoder: Decoder, recipe: Students, length: int, arm: str) -> dict[str, Any]:
    """Memory in GB (of 1e9 bytes), and tokens that a student meets a second; FLOPs are those that `flops.training` counts, recomputing not."""
    examples = lessons(STEPS * recipe.batch_size * recipe.accumulation, length, arm)
    one_step = examples[: len(examples) // STEPS]
    try:
        run(base, one_step, recipe)  # whatever is compiled at first use
        first = run(base, one_step, recipe)
        seconds = run(base, examples, recipe) - first
    except torch.cuda.OutOfMemoryError:
        return {"fits": False}
    tokens = length * (len(examples) - len(one_step))
    work = training(decoder, recipe.lora.r, [(length, round(TRAINED * length))] * (tokens // length))
    return {
        "fits": True,
        "allocated_gb": torch.cuda.max_memory_allocated() / 1e9,
        "reserved_gb": torch.cuda.max_memory_reserved() / 1e9,
        "tokens_per_second": tokens / seconds,
        "tflops": work / seconds / 1e12 if arm != "on_policy" else None,
        "one_step_seconds": first,
    }


def earlier(gpu: str) -> list[dict[str, Any]]:
    """Rows of earlier runs on such a GPU, of which each is kept until it is measured anew."""
    if not RESULTS.is_file():
        return []
    found: list[dict[str, Any]] = json.loads(RESULTS.read_text(encoding="utf-8")).get(gpu, {}).get("rows", [])
    return found


def gemm_tflops() -> float:
    """Speed of a large bf16 matrix product."""
    a, b = (torch.randn(8192, 8192, device="cuda", dtype=torch.bfloat16) for _ in range(2))

    def product() -> None:
        torch.matmul(a, b)
        torch.cuda.synchronize()

    return 2 * 8192**3 / best_seconds(product) / 1e12


def rows(args: argparse.Namespace) -> Iterator[dict[str, Any]]:
    """A row a model, way to keep its weights, length and arm."""
    for size in args.models:
        over = profile.PROFILES / f"paper_{'7b' if size == 'tiny' else size}.yaml"
        recipe = profile.settings_with(PARAMS, over).students["alfworld"]
        with tempfile.TemporaryDirectory() as folder:
            decoder = make_model(size, Path(folder))
            for quantize in args.quantize:
                for length in args.lengths:
                    for arm in args.arms:
                        wanted = recipe.model_copy(update={"quantize": quantize, "epochs": 1})
                        row = {"model": size, "quantize": quantize, "length": length, "arm": arm}
                        yield row | measure(Path(folder), decoder, wanted, length, arm)


def main() -> None:
    """Run the benchmark from the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--models", nargs="+", choices=[*SIZES], default=["7b", "14b"])
    parser.add_argument("--quantize", nargs="+", choices=["4bit", "none"], default=["4bit", "none"])
    parser.add_argument("--lengths", nargs="+", type=int, default=[4096, 8192])
    parser.add_argument("--arms", nargs="+", choices=["distilled", "on_policy"], default=["distilled"])
    args = parser.parse_args()
    if not torch.cuda.is_available():
        raise Fault("no GPU here: this measures training on one")
    hush_libraries()
    gpu, gemm = torch.cuda.get_device_name(), gemm_tflops()
    found = earlier(gpu)
    for row in rows(args):
        found = [old for old in found if any(old[key] != row[key] for key in KEYS)] + [row]
        print(row, flush=True)
        facts = {"gemm_tflops": gemm, "rows": found}
        record({gpu: facts}, {"steps": STEPS, "trained_share": TRAINED}, RESULTS)
    show(f"Training on one {gpu}: bf16 products at {gemm:.0f} TFLOP/s", [row for row in found if row["fits"]])


if __name__ == "__main__":
    sys.exit(faults_in_one_line(main))
