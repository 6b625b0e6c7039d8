"""TRL's trainer with the language-model head run on supervised tokens only.

The loss is TRL's own (mean negative log-likelihood over the labelled tokens of a batch). TRL computes it, with entropy and
accuracy, for every position; in agents' conversations two thirds are observations that carry no loss, and on a CPU the head over 49,152 words
is the dearest part of a small model: leaving those positions out is 2-3x faster.
"""

from __future__ import annotations

from typing import Any

import torch
from trl.trainer.sft_trainer import SFTTrainer

from stages.models.conversation import IGNORED


def supervise(causal_lm: Any, label_smoothing: float) -> None:
    """Give a causal language model a `forward` that returns the sum of the labelled tokens' losses.

    In the model's own forward pass, and not beside it, so that whatever wraps the model (DDP, FSDP) sees the pass it must see.
    """

    def forward(input_ids: torch.Tensor, labels: torch.Tensor, **_: Any) -> torch.Tensor:
        chosen = labels[:, 1:] != IGNORED
        # Rows are padded on the right, where causal attention never looks: no mask, and the fast kernels.
        hidden = causal_lm.get_decoder()(input_ids=input_ids, use_cache=False).last_hidden_state
        logits = causal_lm.get_output_embeddings()(hidden[:, :-1][chosen]).float()
        return torch.nn.functional.cross_entropy(
            logits, labels[:, 1:][chosen], reduction="sum", label_smoothing=label_smoothing
        )

    causal_lm.forward = forward


class SupervisedTrainer(SFTTrainer):
    """`curve` has a row each logged step: step, loss, learning_rate, tokens (all tokens seen so far, padding excluded)."""

    def __init__(self, **settings: Any) -> None:
        self.curve: list[dict[str, float]] = []
        self._tokens = 0
        super().__init__(**settings)
        # Dropout on a CPU draws from the generator that orders the data: launched processes begin an epoch with the first one's.
        self.accelerator.rng_types = ["torch"]
        adapted: Any = self.model
        supervise(adapted.get_base_model(), self.args.label_smoothing_factor)

    def compute_loss(
        self, model: Any, inputs: dict[str, Any], return_outputs: bool = False, num_items_in_batch: Any = None
    ) -> Any:
        """Sum of the labelled tokens' losses over their number (in all accumulated batches of all processes)."""
        labels = inputs["labels"]
        with self.accelerator.autocast():
            total = model(input_ids=inputs["input_ids"], labels=labels)
        self._tokens += int(inputs["attention_mask"].sum())
        if num_items_in_batch is None:
            return total / (labels[:, 1:] != IGNORED).sum()
        # Processes' gradients are averaged, while num_items_in_batch already counts the labels of them all.
        return total / num_items_in_batch * self.accelerator.num_processes

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
