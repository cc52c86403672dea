"""TRL's SFTTrainer on rows that are token ids already, known by number and counted once."""

from __future__ import annotations

from typing import Any

from trl.trainer.sft_trainer import SFTTrainer

from pipeline.data.encoding.examples import IGNORED
from pipeline.training.loss_head import score_trained_tokens_alone
from pipeline.training.one_line import OneLine
from pipeline.training.rows import KnowsRows
from pipeline.training.token_means import TokenMeans

score_trained_tokens_alone()

_WEIGHTS = "weights"  # among the lists of metrics, so that a resumed run has them as well
_MEANS = ("entropy", "mean_token_accuracy")


class EncodedSftTrainer(TokenMeans, KnowsRows, OneLine, SFTTrainer):
    """SFTTrainer whose counts and means are over all tokens of a step, however it is split."""

    def compute_loss(self, model: Any, inputs: Any, *args: Any, **kwargs: Any) -> Any:
        """Count the tokens of rows: upstream would count one line only, or padding too."""
        before, in_pass = self._total_train_tokens, self.tokens_in_pass
        predicted = (inputs["labels"][:, 1:] != IGNORED).sum()
        loss = super().compute_loss(model, inputs, *args, **kwargs)
        if in_pass is not None:
            everywhere: Any = self.accelerator.gather(in_pass.to(self.args.device))
            self._total_train_tokens = before + int(everywhere.sum())
            metrics = self._metrics["train"]
            metrics["num_tokens"] = [self._total_train_tokens]
            weight: Any = self.accelerator.gather(predicted)
            metrics[_WEIGHTS].append(int(weight.sum()))
        return loss

    def log(self: Any, logs: dict[str, float], start_time: float | None = None) -> None:
        """Log means over tokens; upstream's weigh short forward passes like long ones."""
        metrics = self._metrics["train"]
        if self.model.training and metrics.get(_WEIGHTS):
            weights = metrics.pop(_WEIGHTS)
            for name in _MEANS:
                if len(metrics[name]) == len(weights) and sum(weights):
                    total = sum(w * value for w, value in zip(weights, metrics[name], strict=True))
                    metrics[name] = [total / sum(weights)]
        super().log(logs, start_time)  # pyright: ignore[reportAttributeAccessIssue]
