"""What dpo does to held-out pairs: how well it ranks them by the implicit reward.

Measured on pairs that training never saw, where the data keeps some.
"""

from __future__ import annotations

import json
import math
from typing import TYPE_CHECKING, Any

from eval.statistics.pairwise import mean_loss, report_pairs
from pipeline.files.names import HELD_OUT
from pipeline.training.policy_metrics import initial_kl, log_ratios, measure_samples

if TYPE_CHECKING:
    from collections.abc import Sequence

    from eval.statistics.pairwise import ScoredPair
    from pipeline.config.stage import StageContext
    from pipeline.data.encoding.pairs import EncodedPair
    from pipeline.training.on_rows import EncodedRows
    from pipeline.training.policy_metrics import TrainedPolicy

_PAIRS = 500


def measure_before_training(
    trained: TrainedPolicy, pairs: EncodedRows[EncodedPair], context: StageContext
) -> dict[str, Any]:
    """Return KL (on chosen responses) and loss before the first step, on the first process."""
    if not context.is_main:
        return {}
    return {
        **initial_kl(trained, ((pair.prompt_ids, pair.chosen_ids) for pair in pairs.trained)),
        **_loss_before(trained, pairs.held_out[:_PAIRS], context),
    }


def measure_after_training(
    trained: TrainedPolicy, pairs: EncodedRows[EncodedPair], context: StageContext
) -> dict[str, Any]:
    """Return accuracy on held-out pairs and KL on samples; write held_out.json, samples.jsonl.

    On the first process. Without held-out pairs the prompts of training ones are sampled from, and
    the metrics say so.
    """
    if not context.is_main:
        return {}
    rows = pairs.held_out or pairs.trained
    divergence = measure_samples(
        trained,
        (pair.prompt_ids for pair in rows),
        context,
        longest=max(rows.longest("chosen_ids"), rows.longest("rejected_ids")),
        are_held_out=bool(pairs.held_out),
    )
    ranking = _rank_pairs(trained, pairs.held_out[:_PAIRS], context) if pairs.held_out else {}
    return {**ranking, **divergence}


def _loss_before(
    trained: TrainedPolicy, held_out: Sequence[EncodedPair], context: StageContext
) -> dict[str, float]:
    """Return the loss on held-out pairs before the first step, as a metric.

    log 2 where the reference is the policy as it comes in. Empty where there are no pairs, or the
    loss is another than -log sigmoid of beta times the difference.
    """
    if not held_out or not is_sigmoid(trained.trainer.args):
        return {}
    if not trained.has_own_reference:
        return {"held_out_loss_before": math.log(2)}
    return {"held_out_loss_before": mean_loss(_score_pairs(trained, held_out, context))}


def _score_pairs(
    trained: TrainedPolicy, pairs: Sequence[EncodedPair], context: StageContext
) -> list[ScoredPair]:
    """Score pairs by beta log p / q, the implicit reward."""
    from pipeline.data.encoding.pairs import attach_scores

    sequences = [(pair.prompt_ids, pair.chosen_ids) for pair in pairs]
    sequences += [(pair.prompt_ids, pair.rejected_ids) for pair in pairs]
    beta: float = trained.trainer.args.beta
    return attach_scores(pairs, [beta * ratio for ratio in log_ratios(trained, sequences, context)])


def _rank_pairs(
    trained: TrainedPolicy, pairs: Sequence[EncodedPair], context: StageContext
) -> dict[str, Any]:
    """Rank held-out pairs by the implicit reward; write held_out.json."""
    scored = _score_pairs(trained, pairs, context)
    ranking = report_pairs(scored)
    (context.out / HELD_OUT).write_text(json.dumps(ranking, indent=1), encoding="utf-8")
    return {
        "held_out_accuracy": ranking["accuracy"],
        "held_out_low": ranking["low"],
        "held_out_high": ranking["high"],
        "held_out_pairs": ranking["n"],
        "held_out_margin": ranking["scores"]["margin_mean"],
        **({"held_out_loss": mean_loss(scored)} if is_sigmoid(trained.trainer.args) else {}),
    }


def is_sigmoid(args: Any) -> bool:
    """Whether DPO's loss is the sigmoid one of Rafailov et al. 2023, with nothing added to it."""
    return list(args.loss_type) == ["sigmoid"] and not args.label_smoothing
