"""The trainer on tiny models: its loss, its curve, and the adapter it leaves."""

from __future__ import annotations

import json
import random
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from peft import LoraConfig, PeftModel
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM, AutoTokenizer
from trl import SFTConfig

from stages.core.records import Message
from stages.core.sections import Lora, Training
from stages.engines import cpu
from stages.models import conversation
from stages.models.chat import Chat
from stages.models.conversation import IGNORED, Encoded
from stages.models.weights import weights_digest
from stages.training.loss import LoraTrainer, supervise
from stages.training.trainer import TrainingError, keep_adapter, merge, train

pytest_plugins = ["tiny"]

RECIPE = Training(
    epochs=2,
    learning_rate=5e-3,
    schedule="cosine",
    warmup_ratio=0.05,
    weight_decay=0.0,
    label_smoothing=0.0,
    batch_size=2,
    accumulation=1,
    max_tokens=512,
    gradient_checkpointing=False,
    quantize="none",
    lora=Lora(r=4, alpha=8, dropout=0.0),
)
SEED = 1
WEIGHTS = "adapter_model.safetensors"


def talk(number: int) -> list[Message]:
    rng = random.Random(f"talk{number}")
    words = [rng.choice(("mug", "pen", "desk", "the tin", "other", "inner")) for _ in range(6)]
    return [
        Message("user", f"You see a {words[0]} and a {words[1]}."),
        Message("assistant", f"Think: {words[2]}.\nAction: take {words[3]}", train=number % 3 != 0),
        Message("user", "Nothing happens."),
        Message("assistant", f"Action: go to {words[4]} {words[5]}", train=True),
    ]


@pytest.fixture(scope="module")
def examples(tiny_tokenizer: Any) -> list[Encoded]:
    chat = Chat(tiny_tokenizer)
    return [example for number in range(12) for example in conversation.examples(chat, talk(number))]


@pytest.fixture(scope="module")
def trained(
    tiny_llama: Path, examples: list[Encoded], tmp_path_factory: pytest.TempPathFactory
) -> tuple[Path, list[dict[str, float]]]:
    out = tmp_path_factory.mktemp("trained") / "adapter"
    return out, train(tiny_llama, examples, RECIPE, SEED, out)


def nll(model: Any, example: Encoded) -> torch.Tensor:
    """Negative log-likelihood of each supervised token, by plain torch."""
    ids, labels = torch.tensor([example.input_ids]), torch.tensor(example.labels)
    shares = torch.log_softmax(model(input_ids=ids).logits[0].float(), -1)
    where = [n for n in range(1, len(labels)) if labels[n] != IGNORED]
    return -torch.stack([shares[n - 1, labels[n]] for n in where])


@pytest.fixture
def trainer(tiny_llama: Path, tmp_path: Path) -> LoraTrainer:
    """The trainer in fp32, where its loss is exact."""
    from datasets import Dataset

    return LoraTrainer(
        supervise(0.0),
        model=AutoModelForCausalLM.from_pretrained(tiny_llama, dtype=torch.float32),
        args=SFTConfig(output_dir=str(tmp_path), bf16=False, use_cpu=True, report_to=[], max_length=None),
        train_dataset=Dataset.from_dict({"input_ids": [[1, 2]], "labels": [[1, 2]]}),
        processing_class=AutoTokenizer.from_pretrained(tiny_llama),
        peft_config=LoraConfig(r=2, target_modules="all-linear", task_type="CAUSAL_LM"),
    )


def batch_of(examples: list[Encoded], to: int) -> dict[str, Any]:
    """Rows padded on the right, as the collator makes them."""
    return {
        "input_ids": torch.tensor([e.input_ids + [0] * (to - len(e.input_ids)) for e in examples]),
        "labels": torch.tensor([e.labels + [IGNORED] * (to - len(e.labels)) for e in examples]),
        "attention_mask": torch.tensor([[1] * len(e.input_ids) + [0] * (to - len(e.input_ids)) for e in examples]),
    }


def test_the_loss_is_the_mean_over_all_supervised_tokens_of_a_batch(
    trainer: LoraTrainer, tiny_llama: Path, examples: list[Encoded]
) -> None:
    model = AutoModelForCausalLM.from_pretrained(tiny_llama, dtype=torch.float32)
    rows = examples[:3]
    longest = max(len(e.input_ids) for e in rows)
    assert len({len(e.input_ids) for e in rows}) > 1, "rows of different lengths, so that some are padded"
    with torch.no_grad():
        costs = torch.cat([nll(model, e) for e in rows])
        loss = trainer.compute_loss(trainer.model, batch_of(rows, longest + 5))
        torch.testing.assert_close(loss, costs.mean(), rtol=1e-5, atol=1e-5)
        accumulated = trainer.compute_loss(
            trainer.model, batch_of(rows, longest), num_items_in_batch=torch.tensor(1000)
        )
        torch.testing.assert_close(accumulated, costs.sum() / 1000, rtol=1e-5, atol=1e-5)


def test_only_supervised_tokens_matter(trainer: LoraTrainer, examples: list[Encoded]) -> None:
    whole = examples[0]
    last = max(n for n, label in enumerate(whole.labels) if label == IGNORED)
    first_reply = whole.labels.index(next(label for label in whole.labels if label != IGNORED))
    with torch.no_grad():
        loss = trainer.compute_loss(trainer.model, batch_of([whole], len(whole.labels)))
        longer = Encoded([*whole.input_ids, 5, 6, 7], [*whole.labels, *[IGNORED] * 3])  # an untrained tail
        same = trainer.compute_loss(trainer.model, batch_of([longer], len(longer.labels)))
        torch.testing.assert_close(loss, same, rtol=1e-6, atol=1e-6)
        more = Encoded(whole.input_ids, [*whole.labels[:last], whole.input_ids[last], *whole.labels[last + 1 :]])
        assert trainer.compute_loss(trainer.model, batch_of([more], len(more.labels))) != loss
    assert first_reply > 0


def test_the_first_row_of_the_curve_is_the_untrained_models_loss(
    tiny_llama: Path, examples: list[Encoded], tmp_path: Path
) -> None:
    five = examples[:5]
    still = RECIPE.model_copy(update={"epochs": 1, "learning_rate": 1e-12, "batch_size": 1})
    curve = train(tiny_llama, five, still, SEED, tmp_path / "adapter")
    model = AutoModelForCausalLM.from_pretrained(tiny_llama, dtype=torch.bfloat16)
    with torch.no_grad(), torch.autocast("cpu", torch.bfloat16):
        costs = [nll(model, e).mean().item() for e in five]
    assert curve[-1]["step"] == 5
    assert curve[-1]["tokens"] == sum(len(e.input_ids) for e in five)
    mean = sum(row["loss"] for row in curve) / len(curve) if len(curve) > 2 else curve[-1]["loss"]
    assert mean == pytest.approx(sum(costs) / 5, rel=0.02)


def test_the_curve_falls_and_counts_tokens(
    trained: tuple[Path, list[dict[str, float]]], examples: list[Encoded]
) -> None:
    _, curve = trained
    assert [set(row) for row in curve] == [{"step", "loss", "learning_rate", "tokens"}] * len(curve)
    assert curve[-1]["loss"] < curve[0]["loss"]
    steps = [row["step"] for row in curve]
    tokens = [row["tokens"] for row in curve]
    assert steps == sorted(set(steps)) and tokens == sorted(set(tokens))
    assert tokens[-1] <= RECIPE.epochs * sum(len(e.input_ids) for e in examples)
    assert max(row["learning_rate"] for row in curve) <= RECIPE.learning_rate


def test_a_run_of_a_single_step_has_a_curve(tiny_llama: Path, examples: list[Encoded], tmp_path: Path) -> None:
    one = RECIPE.model_copy(update={"epochs": 1})
    curve = train(tiny_llama, examples[:1], one, SEED, tmp_path / "adapter")
    assert curve and curve[-1]["loss"] > 0


def test_accumulated_batches_make_the_step_of_one_large_batch(
    tiny_llama: Path, examples: list[Encoded], tmp_path: Path
) -> None:
    four = examples[:4]
    large = RECIPE.model_copy(update={"epochs": 4, "batch_size": 4})
    small = large.model_copy(update={"batch_size": 2, "accumulation": 2})
    whole = train(tiny_llama, four, large, SEED, tmp_path / "large")
    parts = train(tiny_llama, four, small, SEED, tmp_path / "small")
    assert [row["tokens"] for row in whole] == [row["tokens"] for row in parts]
    assert [row["loss"] for row in whole] == pytest.approx([row["loss"] for row in parts], rel=0.02)


def test_label_smoothing_counts_in_the_loss(tiny_llama: Path, examples: list[Encoded], tmp_path: Path) -> None:
    still = RECIPE.model_copy(update={"epochs": 1, "learning_rate": 1e-12, "batch_size": 12})
    plain = train(tiny_llama, examples, still, SEED, tmp_path / "plain")
    smooth = train(tiny_llama, examples, still.model_copy(update={"label_smoothing": 0.1}), SEED, tmp_path / "smooth")
    assert smooth[0]["loss"] != pytest.approx(plain[0]["loss"], rel=1e-4)


def test_gradient_checkpointing_changes_memory_and_not_the_result(
    trained: tuple[Path, list[dict[str, float]]], tiny_llama: Path, examples: list[Encoded], tmp_path: Path
) -> None:
    _, curve = trained
    frugal = RECIPE.model_copy(update={"gradient_checkpointing": True})
    again = train(tiny_llama, examples, frugal, SEED, tmp_path / "frugal")
    assert [row["loss"] for row in again] == pytest.approx([row["loss"] for row in curve], rel=0.01)


def test_the_adapter_is_bf16_and_knows_no_path_of_this_machine(
    trained: tuple[Path, list[dict[str, float]]], tiny_llama: Path
) -> None:
    folder, _ = trained
    assert sorted(p.name for p in folder.iterdir()) == ["adapter_config.json", WEIGHTS]
    weights = load_file(folder / WEIGHTS)
    assert {tensor.dtype for tensor in weights.values()} == {torch.bfloat16}
    assert any(tensor.abs().max() > 0 for name, tensor in weights.items() if "lora_B" in name)
    config = json.loads((folder / "adapter_config.json").read_text())
    assert config["base_model_name_or_path"] is None
    assert (config["r"], config["lora_alpha"]) == (RECIPE.lora.r, RECIPE.lora.alpha)
    assert config["target_modules"] == sorted(config["target_modules"])
    for path in folder.iterdir():
        content = path.read_bytes()
        assert str(tiny_llama).encode() not in content and str(folder).encode() not in content


def test_the_same_seed_gives_the_same_bytes_whatever_was_drawn_before(
    trained: tuple[Path, list[dict[str, float]]], tiny_llama: Path, examples: list[Encoded], tmp_path: Path
) -> None:
    folder, curve = trained
    torch.manual_seed(999)
    assert train(tiny_llama, examples, RECIPE, SEED, tmp_path / "again") == curve
    for name in ("adapter_config.json", WEIGHTS):
        assert (tmp_path / "again" / name).read_bytes() == (folder / name).read_bytes()


def test_another_seed_gives_another_adapter(
    trained: tuple[Path, list[dict[str, float]]], tiny_llama: Path, examples: list[Encoded], tmp_path: Path
) -> None:
    folder, _ = trained
    train(tiny_llama, examples, RECIPE, 2, tmp_path / "other")
    assert (tmp_path / "other" / WEIGHTS).read_bytes() != (folder / WEIGHTS).read_bytes()


def strong_adapter(base: Path, out: Path) -> None:
    """An adapter that changes what is said, saved as the trainer saves one."""
    from peft import get_peft_model

    model = AutoModelForCausalLM.from_pretrained(base, dtype=torch.float32)
    model = get_peft_model(model, LoraConfig(r=4, lora_alpha=8, target_modules="all-linear", task_type="CAUSAL_LM"))
    torch.manual_seed(1)
    for name, weight in model.named_parameters():
        if "lora_" in name:
            torch.nn.init.normal_(weight, std=0.2)
    model.save_pretrained(out)
    keep_adapter(out, out)


@pytest.mark.parametrize("name", ["tiny_llama", "tiny_qwen2"])
def test_the_merged_model_says_what_peft_says(
    name: str, request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: Any
) -> None:
    monkeypatch.setattr(cpu, "number_format", lambda dtype: torch.float32)
    base, adapter, merged = request.getfixturevalue(name), tmp_path / "adapter", tmp_path / "merged"
    strong_adapter(base, adapter)
    digest = merge(base, adapter, merged)

    tokenizer = AutoTokenizer.from_pretrained(merged)
    plain = [{"role": "user", "content": "You see the inner tin."}]
    prompt = tokenizer.apply_chat_template(plain, tokenize=False, add_generation_prompt=True)
    ids = torch.tensor([tokenizer(prompt, add_special_tokens=False)["input_ids"]])
    unmerged = PeftModel.from_pretrained(AutoModelForCausalLM.from_pretrained(base, dtype=torch.float32), adapter)
    whole = AutoModelForCausalLM.from_pretrained(merged, dtype=torch.float32)
    with torch.inference_mode():
        wanted, found = unmerged(input_ids=ids).logits, whole(input_ids=ids).logits
        untouched = AutoModelForCausalLM.from_pretrained(base, dtype=torch.float32)(input_ids=ids).logits
    apart = (wanted - untouched).std()
    assert (wanted - found).std() < 0.05 * apart, "bf16 rounds the sum once: little next to what the adapter changes"

    engine = cpu.CpuEngine(merged, None, dtype="auto", slots=1, context=512, max_new_tokens=4, temperature=0.0, stop=())
    engine.submit(session := engine.open(0), [Message("user", "You see the inner tin.")])
    [reply] = engine.poll()
    assert reply.session == session
    out = unmerged.generate(input_ids=ids, attention_mask=torch.ones_like(ids), do_sample=False, max_new_tokens=4)
    assert reply.text == tokenizer.decode(out[0, ids.shape[1] :], skip_special_tokens=True)

    again = AutoModelForCausalLM.from_pretrained(merged, dtype="auto")
    assert again.dtype == torch.bfloat16
    assert digest == weights_digest(again) != weights_digest(AutoModelForCausalLM.from_pretrained(base, dtype="auto"))


def test_a_trained_adapter_loads_in_the_engine(trained: tuple[Path, list[dict[str, float]]], tiny_llama: Path) -> None:
    folder, _ = trained
    engine = cpu.CpuEngine(
        tiny_llama, folder, dtype="auto", slots=1, context=512, max_new_tokens=4, temperature=0.0, stop=()
    )
    engine.submit(engine.open(0), [Message("user", "a")])
    assert engine.poll()[0].reply_tokens > 0


def test_no_example_and_no_trained_token_are_refused(tiny_llama: Path, examples: list[Encoded], tmp_path: Path) -> None:
    with pytest.raises(TrainingError, match="no training examples"):
        train(tiny_llama, [], RECIPE, SEED, tmp_path / "adapter")
    mute = Encoded(examples[0].input_ids, [IGNORED] * len(examples[0].labels))
    with pytest.raises(TrainingError, match="training example 1 has no token that carries loss"):
        train(tiny_llama, [examples[0], mute], RECIPE, SEED, tmp_path / "adapter")
    assert not (tmp_path / "adapter").exists()


@pytest.mark.parametrize("damage", ["no base", "torn base", "no adapter", "torn adapter"])
def test_what_cannot_be_merged_is_named(tiny_llama: Path, tmp_path: Path, damage: str) -> None:
    base, adapter = tmp_path / "base", tmp_path / "adapter"
    if damage != "no base":
        shutil.copytree(tiny_llama, base)
    if damage != "no adapter":
        strong_adapter(tiny_llama, adapter)
    if damage.startswith("torn"):
        torn = base / "model.safetensors" if damage == "torn base" else adapter / WEIGHTS
        torn.write_bytes(torn.read_bytes()[:500])
    with pytest.raises(TrainingError) as caught:
        merge(base, adapter, tmp_path / "merged")
    assert str(base) in str(caught.value) and str(adapter) in str(caught.value)


@pytest.mark.parametrize("damage", ["no base", "torn base"])
def test_a_base_that_does_not_load_is_named(
    tiny_llama: Path, examples: list[Encoded], tmp_path: Path, damage: str
) -> None:
    base = tmp_path / "base"
    if damage == "torn base":
        shutil.copytree(tiny_llama, base)
        (base / "model.safetensors").write_bytes(b"torn")
    with pytest.raises(TrainingError) as caught:
        train(base, examples, RECIPE, SEED, tmp_path / "adapter")
    assert str(base) in str(caught.value)
