"""TRL's trainer with the language-model head run on supervised tokens only.

The loss is TRL's own (mean negative log-likelihood over the labelled tokens of a batch). TRL computes it, with entropy and
accuracy, for every position; in agents' conversations two thirds are observations that carry no loss, and on a CPU the head over 49,152 words
is the dearest part of a small model: leaving those positions out is 2-3x faster.
"""

from __future__ import annotations

from typing import Any

import torch
from trl.trainer.sft_trainer import SFTTrainer

from stages.chat import IGNORED


class SupervisedTrainer(SFTTrainer):
    """`curve` has a row each logged step: step, loss, learning_rate, tokens (all tokens seen so far, padding excluded)."""

    def __init__(self, **settings: Any) -> None:
        self.curve: list[dict[str, float]] = []
        self._tokens = 0
        super().__init__(**settings)

    def compute_loss(
        self, model: Any, inputs: dict[str, Any], return_outputs: bool = False, num_items_in_batch: Any = None
    ) -> Any:
        """Sum of the labelled tokens' negative log-likelihoods over their number (in all accumulated batches)."""
        causal_lm = self.accelerator.unwrap_model(model).get_base_model()
        labels = inputs["labels"][:, 1:]
        chosen = labels != IGNORED
        with self.accelerator.autocast():
            # Rows are padded on the right, where causal attention never looks: no mask, and the fast kernels.
            hidden = causal_lm.get_decoder()(input_ids=inputs["input_ids"], use_cache=False).last_hidden_state
            logits = causal_lm.get_output_embeddings()(hidden[:, :-1][chosen])
        total = torch.nn.functional.cross_entropy(logits.float(), labels[chosen], reduction="sum")
        self._tokens += int(inputs["attention_mask"].sum())
        return total / (chosen.sum() if num_items_in_batch is None else num_items_in_batch)

    def log(self, logs: dict[str, float], start_time: float | None = None) -> None:
        if "loss" in logs:
            self.curve.append(
                {
                    "step": self.state.global_step,
                    "loss": logs["loss"],
                    "learning_rate": logs["learning_rate"],
                    "tokens": self._tokens,
                }
            )
        super().log(logs, start_time)
