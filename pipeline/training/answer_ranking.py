"""What kto does to held-out answers: whether implicit rewards have the signs of their labels.

Measured on rows that training never saw, where the data keeps some.
"""

from __future__ import annotations

import json
from statistics import fmean
from typing import TYPE_CHECKING, Any

from eval.statistics.judged import JudgedAnswer, mean_loss, report_judged
from pipeline.files.names import HELD_OUT
from pipeline.training.kto_trainer import WITHOUT_KL
from pipeline.training.policy_metrics import initial_kl, log_ratios, measure_samples

if TYPE_CHECKING:
    from collections.abc import Sequence

    from eval.asking.loglik import Pair
    from pipeline.config.stage import StageContext
    from pipeline.data.encoding.unpaired import EncodedAnswer
    from pipeline.training.on_rows import EncodedRows
    from pipeline.training.policy_metrics import TrainedPolicy

_ANSWERS = 500


def measure_before_training(
    trained: TrainedPolicy, rows: EncodedRows[EncodedAnswer], context: StageContext
) -> dict[str, Any]:
    """Return KL and loss before the first step, on the first process."""
    if not context.is_main:
        return {}
    held_out = rows.held_out[:_ANSWERS]
    metrics: dict[str, Any] = initial_kl(trained, map(_sequence, rows.trained))
    if held_out and trained.has_own_reference:
        metrics["held_out_loss_before"] = _loss(trained, held_out, context)
    elif held_out:  # every reward is 0, and so is the KL term
        metrics["held_out_loss_before"] = _loss_of(
            trained, _judged(held_out, [0.0] * len(held_out))
        )
    return metrics


def measure_after_training(
    trained: TrainedPolicy, rows: EncodedRows[EncodedAnswer], context: StageContext
) -> dict[str, Any]:
    """Return accuracy on held-out rows and KL on samples; write held_out.json, samples.jsonl.

    On the first process. Without held-out rows the prompts of training ones are sampled from, and
    the metrics say so.
    """
    if not context.is_main:
        return {}
    answers = rows.held_out or rows.trained
    divergence = measure_samples(
        trained,
        (answer.prompt_ids for answer in answers),
        context,
        longest=answers.longest("completion_ids"),
        are_held_out=bool(rows.held_out),
    )
    held_out = rows.held_out[:_ANSWERS]
    return {**(_rank(trained, held_out, context) if held_out else {}), **divergence}


def _rank(
    trained: TrainedPolicy, answers: Sequence[EncodedAnswer], context: StageContext
) -> dict[str, Any]:
    """Compare the signs of implicit rewards with the labels; write held_out.json."""
    judged, kl_reward = _score(trained, answers, context)
    report = report_judged(judged)
    (context.out / HELD_OUT).write_text(json.dumps(report, indent=1), encoding="utf-8")
    return {
        "held_out_accuracy": report["accuracy"],
        "held_out_low": report["low"],
        "held_out_high": report["high"],
        "held_out_rows": report["n"],
        **({} if report["margin"] is None else {"held_out_margin": report["margin"]}),
        "held_out_loss": _loss_of(trained, judged, kl_reward),
    }


def _loss(trained: TrainedPolicy, answers: Sequence[EncodedAnswer], context: StageContext) -> float:
    return _loss_of(trained, *_score(trained, answers, context))


def _loss_of(
    trained: TrainedPolicy, judged: Sequence[JudgedAnswer], kl_reward: float = 0.0
) -> float:
    args = trained.trainer.args
    return mean_loss(
        judged,
        kl_reward=kl_reward,
        desirable_weight=args.desirable_weight,
        undesirable_weight=args.undesirable_weight,
    )


def _score(
    trained: TrainedPolicy, answers: Sequence[EncodedAnswer], context: StageContext
) -> tuple[list[JudgedAnswer], float]:
    """Return answers with beta log p / q, the implicit reward, and beta times the KL term.

    The KL term is a mean over all of the rows: of each prompt with the response of the row before.
    """
    args = trained.trainer.args
    sequences = [_sequence(answer) for answer in answers]
    has_kl = args.loss_type != WITHOUT_KL
    limit = args.max_length or trained.language_model().max_length
    mismatched = _mismatched(sequences, limit) if has_kl else []
    ratios = log_ratios(trained, [*sequences, *mismatched], context)
    rewards = [args.beta * ratio for ratio in ratios]
    kl_reward = max(0.0, fmean(rewards[len(sequences) :])) if has_kl else 0.0
    return _judged(answers, rewards[: len(sequences)]), kl_reward


def _mismatched(sequences: Sequence[Pair], limit: int | None) -> list[Pair]:
    """Return each prompt with the response of the sequence before; limit: tokens of both."""
    pairs = zip(sequences, (sequences[-1], *sequences[:-1]), strict=True)
    return [
        (prompt, response if limit is None else response[: limit - len(prompt)])
        for (prompt, _), (_, response) in pairs
    ]


def _judged(answers: Sequence[EncodedAnswer], rewards: Sequence[float]) -> list[JudgedAnswer]:
    return [
        JudgedAnswer(reward, answer.is_desirable)
        for answer, reward in zip(answers, rewards, strict=True)
    ]


def _sequence(answer: EncodedAnswer) -> Pair:
    return answer.prompt_ids, answer.completion_ids
