"""Context distillation on tiny models: the pairs it learns from, its loss, and the student it leaves."""

from __future__ import annotations

import dataclasses
import json
import random
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any, get_args

import pytest
import torch
from fake_study import lesson
from peft import LoraConfig, PeftModel
from test_model_template import with_template
from test_trainer import RECIPE as LIKELIHOOD
from transformers import AutoModelForCausalLM, AutoTokenizer
from trl import SFTConfig

from stages import students
from stages.core.records import Lesson, Message, write
from stages.core.sections import Divergence, OnPolicy, Students
from stages.models.chat import Chat, open_chat
from stages.models.conversation import IGNORED
from stages.training.loss import LoraTrainer, diverge
from stages.training.pairs import Pair, PairError, paired, pairs
from stages.training.trainer import SAMPLE, distil

pytest_plugins = ["tiny"]

RECIPE = Students(
    **LIKELIHOOD.model_copy(update={"epochs": 7, "learning_rate": 1e-9}).model_dump(),
    on_policy=OnPolicy(epochs=4, learning_rate=5e-3, divergence="reverse", kl_clip=None),
)
HINT = "\nHints: look into the tin first."
NAME = "alfworld_react_on_policy"


def told(number: int, hint: str = HINT) -> Lesson:
    """An episode of two replies, one of them trained in every third, without the hint and with it."""
    rng = random.Random(number)
    words = [rng.choice(("mug", "pen", "desk", "the tin", "other", "inner")) for _ in range(5)]
    talk = [
        Message("user", f"You see a {words[0]} and a {words[1]}."),
        Message("assistant", f"Think: {words[2]}.\nAction: take {words[3]}", train=number % 3 != 0),
        Message("user", "Nothing happens."),
        Message("assistant", f"Action: go to {words[4]}", train=True),
    ]
    made = lesson("on_policy", f"task{number}", "put")
    plain, hinted = ([Message("system", f"You act.{said}"), *talk] for said in ("", hint))
    return dataclasses.replace(made, messages=plain, hinted=hinted)


@pytest.fixture(scope="module")
def rows(tiny_tokenizer: Any) -> list[Pair]:
    return [pair for number in range(8) for pair in pairs(Chat(tiny_tokenizer), told(number))]


@pytest.fixture(scope="module")
def bare(tiny_tokenizer: Any) -> list[Pair]:
    """Episodes that were shown no hint."""
    return [pair for number in range(4) for pair in pairs(Chat(tiny_tokenizer), told(number, ""))]


def trainer_of(
    base: Path, folder: Path, rows: Sequence[Pair], clip: float | None = None, divergence: Divergence = "reverse"
) -> LoraTrainer:
    """The trainer in fp32, where its loss is exact, on an adapter that does nothing yet."""
    from datasets import Dataset

    return LoraTrainer(
        diverge(divergence, clip),
        model=AutoModelForCausalLM.from_pretrained(base, dtype=torch.float32),
        args=SFTConfig(
            output_dir=str(folder),
            bf16=False,
            use_cpu=True,
            report_to=[],
            max_length=None,
            remove_unused_columns=False,
            pad_to_multiple_of=64,
        ),
        train_dataset=Dataset.from_list(list(map(vars, rows))),
        processing_class=AutoTokenizer.from_pretrained(base),
        peft_config=LoraConfig(r=2, target_modules="all-linear", task_type="CAUSAL_LM"),
    )


def stir(trainer: LoraTrainer) -> None:
    """Give the adapter weights that change what the model says."""
    torch.manual_seed(1)
    for name, weight in trainer.model.named_parameters():
        if "lora_B" in name:
            torch.nn.init.normal_(weight, std=0.05)


def batch(trainer: LoraTrainer, rows: Sequence[Pair]) -> dict[str, Any]:
    return dict(trainer.data_collator(list(map(vars, rows))))


def loss(trainer: LoraTrainer, rows: Sequence[Pair]) -> torch.Tensor:
    found = trainer.compute_loss(trainer.model, batch(trainer, rows))
    assert isinstance(found, torch.Tensor)
    return found


def log_probabilities(model: Any, ids: list[int], labels: list[int]) -> torch.Tensor:
    """Of every word at each trained token of a row that is not padded, in fp64, by transformers' own forward pass."""
    with torch.no_grad():
        logits = type(model).forward(model, input_ids=torch.tensor([ids])).logits[0]
    return torch.log_softmax(logits[[n - 1 for n, label in enumerate(labels) if label != IGNORED]].double(), -1)


def divergences(
    trainer: LoraTrainer, base: Path, rows: Sequence[Pair], divergence: Divergence = "reverse"
) -> torch.Tensor:
    """KL(student || teacher), or forward the other way round, of each trained token, summed over the words by hand."""
    teacher: Any = AutoModelForCausalLM.from_pretrained(base, dtype=torch.float32)
    adapted: Any = trainer.model
    return apart(adapted.get_base_model(), teacher, rows, divergence)


def apart(student: Any, teacher: Any, rows: Sequence[Pair], divergence: Divergence = "reverse") -> torch.Tensor:
    found = []
    for row in rows:
        p = log_probabilities(student, row.input_ids, row.labels)
        q = log_probabilities(teacher, row.hinted_input_ids, row.hinted_labels)
        p, q = (p, q) if divergence == "reverse" else (q, p)
        found.append((p.exp() * (p - q)).sum(-1))
    return torch.cat(found)


@pytest.mark.parametrize("divergence", get_args(Divergence))
def test_the_loss_is_the_mean_divergence_of_all_trained_tokens(
    tiny_llama: Path, rows: list[Pair], tmp_path: Path, divergence: Divergence
) -> None:
    assert len({len(row.input_ids) for row in rows}) > 1, "rows of different lengths, so that some are padded"
    trainer = trainer_of(tiny_llama, tmp_path, rows, divergence=divergence)
    stir(trainer)
    reference = divergences(trainer, tiny_llama, rows, divergence)
    assert len(reference) == sum(label != IGNORED for row in rows for label in row.labels)
    assert reference.min() > 1e-3
    torch.testing.assert_close(loss(trainer, rows).double(), reference.mean(), rtol=1e-5, atol=0)
    accumulated = trainer.compute_loss(
        trainer.model, batch(trainer, rows), num_items_in_batch=torch.tensor(10 * len(reference))
    )
    torch.testing.assert_close(accumulated.double(), reference.mean() / 10, rtol=1e-5, atol=0)


def test_a_student_that_is_sure_of_the_wrong_word_learns_by_the_forward_divergence_alone() -> None:
    """Why there are two: KL(student || teacher) is flat there, though it is large."""
    sure, other = torch.tensor([20.0, 0.0, 0.0]), torch.tensor([0.0, 4.0, 0.0])

    def pull(divergence: Divergence) -> tuple[float, float]:
        logits = sure.clone().requires_grad_()
        said = [logits]

        @contextmanager
        def disable_adapter() -> Iterator[None]:
            said.append(other)
            yield

        decoder = lambda **_: SimpleNamespace(last_hidden_state=said[-1].repeat(1, 2, 1))  # noqa: E731
        lm = SimpleNamespace(get_decoder=lambda: decoder, get_output_embeddings=lambda: torch.nn.Identity())
        diverge(divergence, None)(SimpleNamespace(get_base_model=lambda: lm, disable_adapter=disable_adapter))
        row = {"input_ids": torch.tensor([[0, 1]]), "labels": torch.tensor([[IGNORED, 1]])}
        nats = lm.forward(**row, **{f"hinted_{name}": tensor for name, tensor in row.items()})
        nats.backward()
        assert logits.grad is not None
        return nats.item(), logits.grad.abs().max().item()

    assert pull("reverse") == (pytest.approx(4.0, abs=0.1), pytest.approx(0, abs=1e-6))
    assert pull("forward")[1] > 0.9


def test_without_hints_there_is_nothing_to_learn_at_the_start(
    tiny_llama: Path, bare: list[Pair], rows: list[Pair], tmp_path: Path
) -> None:
    trainer = trainer_of(tiny_llama, tmp_path, bare)
    assert loss(trainer, bare) == 0
    assert loss(trainer, rows) > 0.01


def test_a_tokens_divergence_counts_as_much_as_the_clip_at_most(
    tiny_llama: Path, rows: list[Pair], tmp_path: Path
) -> None:
    plain = trainer_of(tiny_llama, tmp_path, rows)
    stir(plain)
    reference = divergences(plain, tiny_llama, rows)
    clip = reference.median().item()
    clipped = trainer_of(tiny_llama, tmp_path, rows, clip)
    stir(clipped)
    torch.testing.assert_close(loss(clipped, rows).double(), reference.clamp(max=clip).mean(), rtol=1e-5, atol=0)
    low = trainer_of(tiny_llama, tmp_path, rows, reference.min().item() / 2)
    stir(low)
    loss(low, rows).backward()
    assert all(not weight.grad.any() for weight in low.model.parameters() if weight.grad is not None)


def test_only_trained_tokens_and_what_stands_before_them_count(
    tiny_llama: Path, rows: list[Pair], tmp_path: Path
) -> None:
    trainer, row = trainer_of(tiny_llama, tmp_path, rows), rows[1]
    tail, mask = [5, 6, 7], [IGNORED] * 3
    longer = Pair(
        row.input_ids + tail, row.labels + mask, row.hinted_input_ids + 2 * tail, row.hinted_labels + 2 * mask
    )
    torch.testing.assert_close(loss(trainer, [longer]), loss(trainer, [row]), rtol=1e-6, atol=0)
    swapped = Pair(row.hinted_input_ids, row.hinted_labels, row.hinted_input_ids, row.hinted_labels)
    assert loss(trainer, [swapped]) == 0


def test_the_gradient_flows_into_the_adapter_and_nowhere_else(
    tiny_llama: Path, rows: list[Pair], tmp_path: Path
) -> None:
    trainer = trainer_of(tiny_llama, tmp_path, rows)
    stir(trainer)
    loss(trainer, rows).backward()
    moved = {
        name: weight.grad is not None and bool(weight.grad.any()) for name, weight in trainer.model.named_parameters()
    }
    assert moved == {name: "lora_" in name for name in moved}


def test_training_moves_the_student_towards_a_teacher_that_stays(
    tiny_llama: Path, rows: list[Pair], tmp_path: Path
) -> None:
    trainer = trainer_of(tiny_llama, tmp_path, rows)
    trainer.args.num_train_epochs, trainer.args.learning_rate = 20, 5e-3
    adapted: Any = trainer.model
    before = divergences(trainer, tiny_llama, rows).mean()
    trainer.train()
    assert divergences(trainer, tiny_llama, rows).mean() < 0.7 * before
    base: Any = AutoModelForCausalLM.from_pretrained(tiny_llama, dtype=torch.float32)
    for row in rows:
        with adapted.disable_adapter():
            found = log_probabilities(adapted.get_base_model(), row.hinted_input_ids, row.hinted_labels)
        assert torch.equal(found, log_probabilities(base, row.hinted_input_ids, row.hinted_labels))


def test_what_is_said_of_the_start_and_the_end_is_so(tiny_llama: Path, rows: list[Pair], tmp_path: Path) -> None:
    assert len(rows) == SAMPLE, "all of them are measured"
    start = divergences(trainer_of(tiny_llama, tmp_path, rows), tiny_llama, rows).mean().item()
    _, (before, after) = distil(tiny_llama, rows, RECIPE.distilling(), 1, tmp_path / "adapter", "reverse", None)
    assert before == pytest.approx(start, rel=0.03), "in bf16"
    student: Any = PeftModel.from_pretrained(
        AutoModelForCausalLM.from_pretrained(tiny_llama, dtype=torch.float32), tmp_path / "adapter"
    )
    teacher: Any = AutoModelForCausalLM.from_pretrained(tiny_llama, dtype=torch.float32)
    assert after == pytest.approx(apart(student.get_base_model(), teacher, rows).mean().item(), rel=0.03)
    assert after < 0.9 * before


def test_the_same_seed_gives_the_same_student(tiny_llama: Path, rows: list[Pair], tmp_path: Path) -> None:
    def bytes_of(name: str) -> bytes:
        torch.manual_seed(len(name))
        distil(tiny_llama, rows, RECIPE.distilling(), 1, tmp_path / name, "reverse", None)
        return (tmp_path / name / "adapter_model.safetensors").read_bytes()

    assert bytes_of("one") == bytes_of("another")


@pytest.mark.parametrize("family", ["chatml", "qwen3"])
def test_a_pair_is_the_same_replies_after_either_prompt(family: str, tiny_qwen2: Path, tmp_path: Path) -> None:
    chat = open_chat(tiny_qwen2 if family == "chatml" else with_template(tiny_qwen2, tmp_path / "model", family))
    episode = told(1)
    if family != "chatml":  # thoughts are left out of later prompts: an example a turn
        thoughtful = [
            [dataclasses.replace(m, content=f"<think>\nSo.\n</think>\n\n{m.content}") if m.train else m for m in talk]
            for talk in (episode.messages, episode.hinted)
        ]
        episode = dataclasses.replace(episode, messages=thoughtful[0], hinted=thoughtful[1])
    found = pairs(chat, episode)
    assert len(found) == (1 if family == "chatml" else 2)
    for pair in found:
        trained = [n for n, label in enumerate(pair.labels) if label != IGNORED]
        hinted = [n for n, label in enumerate(pair.hinted_labels) if label != IGNORED]
        assert [pair.input_ids[n] for n in trained] == [pair.hinted_input_ids[n] for n in hinted]
        assert HINT.strip() in chat.decode(pair.hinted_input_ids)
        assert HINT.strip() not in chat.decode(pair.input_ids)


def test_conversations_that_differ_in_more_than_their_prompt_are_refused(tiny_tokenizer: Any) -> None:
    chat, episode = Chat(tiny_tokenizer), told(1)
    other = dataclasses.replace(episode, hinted=[*episode.hinted[:-1], Message("assistant", "Action: look", True)])
    with pytest.raises(
        PairError, match="lesson on_policy-task1: the same trained tokens expected with hints and without"
    ):
        pairs(chat, other)
    with pytest.raises(PairError, match="lesson on_policy-task1"):
        pairs(chat, dataclasses.replace(episode, hinted=episode.hinted[:-2]))
    assert paired([episode]) and not paired([lesson("sft", "task", "put")])
    with pytest.raises(PairError, match="1 of 2 lessons, sft-task the first, have no conversation with hints"):
        paired([episode, lesson("sft", "task", "put")])


@pytest.fixture
def project(tiny_llama: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A tiny base model and the lessons of an arm; no place for anything else."""
    (tmp_path / "data/base").mkdir(parents=True)
    (tmp_path / "data/base/model").symlink_to(tiny_llama)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(students, "base_name", lambda base: "tiny@abc")
    return tmp_path


def teach(project: Path, lessons: Sequence[Lesson], recipe: Students) -> dict[str, Any]:
    write(project / "data/lessons" / NAME / "lessons.parquet", Lesson, lessons)
    students.teach(NAME, recipe, 0, project / "out")
    facts: dict[str, Any] = json.loads((project / "out/student.json").read_text())
    return facts


@pytest.mark.parametrize("divergence", get_args(Divergence))
def test_a_student_learns_what_the_base_with_hints_would_say(project: Path, divergence: Divergence) -> None:
    by = RECIPE.on_policy.model_copy(update={"divergence": divergence})
    facts = teach(project, [told(number) for number in range(4)], RECIPE.model_copy(update={"on_policy": by}))
    kl = facts.pop("kl")
    assert 0 < kl["after"] < 0.9 * kl["before"]
    assert facts == {
        "schema_version": 1,
        "base": "tiny@abc",
        "loss": f"{divergence}_kl",
        "lessons": 4,
        "tokens": 4 * 50,
        "trained_tokens": 4 * 20,
        "epochs": 4,
    }
    curve = [json.loads(line) for line in (project / "out/curve.jsonl").read_text().splitlines()]
    assert curve[-1]["step"] == 5
    assert max(row["learning_rate"] for row in curve) > 1e-3, "the arm's own"
