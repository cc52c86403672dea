"""What became of the responses and prompts behind rows that a stage made, in words.

And what judges were asked, for it or for another stage. For the terminal, the report and the card
of a data set; reads metrics alone.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from pipeline.data.encoding.lengths import WARNED_SHARE, describe_rows, is_worth_a_warning
from pipeline.report.formatting import plural, short

if TYPE_CHECKING:
    from collections.abc import Mapping

KIND = "data"  # of artifacts


def made_headline(metrics: Mapping[str, Any]) -> str:
    """Return the figure of a stage that matters: `58 pairs`; "" for a kind that is not ours."""
    if "responses_kept" in metrics:
        cut = metrics["responses_cut_off"] / metrics["responses"]
        words = f"{metrics['responses_kept']:,} responses"
        return f"{words}, {cut:.0%} cut off" if cut else words
    if "chosen" in metrics:
        means = f"{short(metrics['score_mean'])}, of all {short(metrics['score_mean_of_all'])}"
        return f"{metrics['chosen']:,} responses, mean score {means}"
    if "pairs" in metrics:
        return f"{metrics['pairs']:,} pairs of {metrics['judged']:,} responses"
    if "thumbs_up" in metrics:
        return f"{metrics['thumbs_up']:,} up, {metrics['thumbs_down']:,} down"
    if "scored" in metrics and "score_mean" in metrics:
        return f"mean score {short(metrics['score_mean'])} of {metrics['scored']:,} responses"
    return ""


def describe_made(metrics: Mapping[str, Any]) -> str:
    """Return in a line what was made, and what was left out and why; "" if nothing was."""
    parts = [describe_rows(metrics)] if "responses" in metrics else []
    lost = _lost(metrics)
    if lost:
        parts.append(f"left out: {', '.join(f'{count:,} {why}' for why, count in lost.items())}")
    kept_cut = _num_cut_and_kept(metrics)
    if kept_cut:
        parts.append(f"{plural(kept_cut, 'response')} kept though cut off")
    return "; ".join(filter(None, [*parts, describe_judges(metrics)]))


def describe_judges(metrics: Mapping[str, Any]) -> str:
    """Return what a stage's judges and revisers were asked and took; "" where there were none."""
    asked = [*metrics.get("judges", {}).items(), *metrics.get("revisers", {}).items()]
    return "; ".join(_of_judge(name, counts) for name, counts in asked)


def are_many_unanswered(metrics: Mapping[str, Any]) -> bool:
    """Whether a judge of a stage gave no answer to more than a few of its questions."""
    counts: list[Mapping[str, float]] = list(metrics.get("judges", {}).values())
    return any(one["failed"] > WARNED_SHARE * one["asked"] for one in counts)


def _of_judge(name: str, counts: Mapping[str, float]) -> str:
    """Return what a judge was asked, how often it gave no answer and why, and what it took."""
    said = [f"`{name}` asked {counts['asked']:,} times"]
    if counts["cached"]:
        said.append(f"{counts['cached']:,} known already")
    if counts["failed"]:
        causes = {key: n for key, n in counts.items() if key.startswith("failed/") and n}
        why = ", ".join(f"{n:,} {key.partition('/')[2]}" for key, n in causes.items())
        said.append(f"{counts['failed']:,} without an answer ({why})")
    said.append(f"{counts['prompt_tokens'] + counts['completion_tokens']:,} tokens")
    if counts["cost"]:
        said.append(f"${counts['cost']:.2f}")
    return ", ".join(said)


def is_loss_worth_a_warning(metrics: Mapping[str, Any]) -> bool:
    """Whether more than a few responses or prompts were left out, for any one reason."""
    if "responses" in metrics and is_worth_a_warning(metrics):
        return True
    responses = _first(metrics, "responses", "judged", "chosen_from")
    prompts = _first(metrics, "prompts", "judged_prompts", "chosen_prompts")
    counts = {**_lost(metrics), "cut": _num_cut_and_kept(metrics)}
    return any(
        count > WARNED_SHARE * (prompts if why.startswith("prompts") else responses)
        for why, count in counts.items()
    )


def _lost(metrics: Mapping[str, Any]) -> dict[str, int]:
    lost = dict(metrics.get("left_out", {}))
    if "responses" in metrics:
        dropped = metrics["responses"] - metrics["responses_kept"] - metrics["responses_empty"]
        lost |= {"empty": metrics["responses_empty"], "cut off": dropped}
    return {why: count for why, count in lost.items() if count}


def _num_cut_and_kept(metrics: Mapping[str, Any]) -> int:
    """Return how many of `generate`'s rows are responses that were cut off."""
    if "responses" not in metrics:
        return 0
    dropped = metrics["responses"] - metrics["responses_kept"] - metrics["responses_empty"]
    return 0 if dropped else metrics["responses_cut_off"]


def _first(metrics: Mapping[str, Any], *names: str) -> int:
    return next((metrics[name] for name in names if name in metrics), 0)
