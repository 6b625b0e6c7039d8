"""TRL's trainer with the language-model head run on trained tokens only, and what it may minimise.

TRL computes its loss, entropy and accuracy for every position; in agents' conversations two thirds are observations that carry no loss,
and on a CPU the head over 49,152 words is the dearest part of a small model: leaving those positions out is 2-3x faster.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch.nn.functional import cross_entropy, kl_div, log_softmax
from trl.trainer.sft_trainer import SFTTrainer

from stages.core.sections import Divergence
from stages.models.conversation import IGNORED, Encoded

Objective = Callable[[Any], None]
"""Gives the model below an adapter a `forward` that returns the sum of the trained tokens' losses.

In the model's own forward pass, and not beside it, so that whatever wraps the model (DDP, FSDP) sees the pass it must see. Arguments that PEFT
adds are empty.
"""


def supervise(label_smoothing: float) -> Objective:
    """The loss of a token: its negative log-likelihood, as TRL's own."""

    def objective(adapted: Any) -> None:
        causal_lm = adapted.get_base_model()

        def forward(input_ids: torch.Tensor, labels: torch.Tensor, **_: Any) -> torch.Tensor:
            logits = _logits(causal_lm, input_ids, labels)
            targets = labels[:, 1:][_trained(labels)]
            return cross_entropy(logits, targets, reduction="sum", label_smoothing=label_smoothing)

        causal_lm.forward = forward

    return objective


def diverge(divergence: Divergence, kl_clip: float | None) -> Objective:
    """The loss of a token: a Kullback-Leibler divergence of student and teacher over the whole vocabulary, in nats, `kl_clip` at most (such a token
    has no gradient). `reverse` is KL(student || teacher), `forward` KL(teacher || student).

    On-policy context distillation (arXiv 2601.19897, 2602.12275; both divergences in arXiv 2306.13649): the student is the model with its adapter,
    after the prompt without hints; the teacher the same model without the adapter, frozen, after the prompt with them; both at the tokens of the same
    replies. The gradient of `reverse` vanishes where the student is sure of what the teacher would not say; that of `forward` does not.
    """

    def objective(adapted: Any) -> None:
        causal_lm = adapted.get_base_model()

        def forward(
            input_ids: torch.Tensor,
            labels: torch.Tensor,
            hinted_input_ids: torch.Tensor,
            hinted_labels: torch.Tensor,
            **_: Any,
        ) -> torch.Tensor:
            # The student first: FSDP and autocast keep what the first pass made of the adapter's weights, which must be with their gradients.
            student = log_softmax(_logits(causal_lm, input_ids, labels), -1)
            with torch.no_grad(), adapted.disable_adapter():
                teacher = log_softmax(_logits(causal_lm, hinted_input_ids, hinted_labels), -1)
            sides = (teacher, student) if divergence == "reverse" else (student, teacher)
            nats = kl_div(*sides, reduction="none", log_target=True).sum(-1)
            return nats.clamp(max=math.inf if kl_clip is None else kl_clip).sum()

        causal_lm.forward = forward

    return objective


def _trained(labels: torch.Tensor) -> torch.Tensor:
    """Mask [rows, positions - 1] of the positions whose next token carries loss."""
    return labels[:, 1:] != IGNORED


def _seen(inputs: dict[str, Any]) -> dict[str, Any]:
    """What a forward pass is given of a batch. Rows are padded on the right, where causal attention never looks: no mask, and the fast kernels."""
    return {name: tensor for name, tensor in inputs.items() if name != "attention_mask"}


def _logits(causal_lm: Any, input_ids: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
    """Logits [trained tokens, vocabulary] in fp32 that predict the trained tokens, row after row."""
    hidden = causal_lm.get_decoder()(input_ids=input_ids, use_cache=False).last_hidden_state
    logits: torch.Tensor = causal_lm.get_output_embeddings()(hidden[:, :-1][_trained(labels)]).float()
    return logits


class Both:
    """Pads what the student meets and what the teacher does, each by itself, with the collator that pads one of them."""

    def __init__(self, collate: Callable[[list[dict[str, Any]]], dict[str, Any]]) -> None:
        self._collate = collate

    def __call__(self, rows: list[dict[str, Any]]) -> dict[str, Any]:
        teachers = [{name: row[f"hinted_{name}"] for name in ("input_ids", "labels")} for row in rows]
        hinted = self._collate(teachers)
        return {
            **self._collate(rows),
            "hinted_input_ids": hinted["input_ids"],
            "hinted_labels": hinted["labels"],
        }


class LoraTrainer(SFTTrainer):
    """`curve` has a row each logged step: step, loss, learning_rate, tokens (all that the student has seen so far, padding excluded)."""

    def __init__(self, objective: Objective, **settings: Any) -> None:
        self.curve: list[dict[str, float]] = []
        self._tokens = 0
        super().__init__(**settings)
        if "hinted_input_ids" in settings["train_dataset"].column_names:
            self.data_collator = Both(self.data_collator)
        # Dropout on a CPU draws from the generator that orders the data: launched processes begin an epoch with the first one's.
        self.accelerator.rng_types = ["torch"]
        objective(self.model)

    def compute_loss(
        self, model: Any, inputs: dict[str, Any], return_outputs: bool = False, num_items_in_batch: Any = None
    ) -> Any:
        """Sum of the trained tokens' losses over their number (in all accumulated batches of all processes)."""
        with self.accelerator.autocast():
            total = model(**_seen(inputs))
        self._tokens += int(inputs["attention_mask"].sum())
        if num_items_in_batch is None:
            return total / _trained(inputs["labels"]).sum()
        # Processes' gradients are averaged, while num_items_in_batch already counts the labels of them all.
        return total / num_items_in_batch * self.accelerator.num_processes

    def mean_loss(self, examples: Sequence[Encoded]) -> float:
        """Mean loss a trained token of these examples, as the model is after training; every process goes through all of them."""
        self.model_wrapped.eval()
        total = trained = 0.0
        for example in examples:
            inputs = self._prepare_inputs(self.data_collator([vars(example)]))
            with torch.no_grad(), self.accelerator.autocast():
                total += float(self.model_wrapped(**_seen(inputs)))
            trained += int(_trained(inputs["labels"]).sum())
        return total / trained

    def log(self, logs: dict[str, float], start_time: float | None = None) -> None:
        if "loss" in logs:
            seen = self.accelerator.reduce(torch.tensor(self._tokens, device=self.accelerator.device))
            self.curve.append(
                {
                    "step": self.state.global_step,
                    "loss": logs["loss"],
                    "learning_rate": logs["learning_rate"],
                    "tokens": int(seen),
                }
            )
        super().log(logs, start_time)
