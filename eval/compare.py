"""The comparison of models with a baseline, computed from their item results.

The baseline is asked in every style too, and a candidate is measured against the baseline's best
one: the harder and more honest comparison, since a base model often fails only to understand what
is wanted. Imports no torch.
"""

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from eval.model import Form
from eval.run import ItemMetric, ItemResult, Style
from eval.statistics import Interval, mean, mean_interval, paired_difference

LOWER_IS_BETTER: frozenset[ItemMetric] = frozenset({"bits_per_byte"})
STYLES: tuple[Style, ...] = ("zero-shot", "few-shot", "none")

Items = dict[str, ItemResult]
Subject = tuple[str, ItemMetric]


@dataclass(frozen=True)
class Row:
    """One model's score on one task, asked in one style, and what it gained over the baseline.

    n, score, low, high: graded items, their mean (bits per byte: total bits / total bytes) and its
        95% interval; None where nothing was graded, or too little for an interval.
    delta, delta_low, delta_high: score minus the baseline's on the items that both graded, with its
        95% interval; None for the baseline itself.
    form: how it was asked, as a document or through its chat template.
    against: the baseline's style with the best score, which `delta` is taken against.
    ungraded: items left out because they, or the baseline's answers to them, could not be graded.
    """

    task: str
    metric: ItemMetric
    model: str
    style: Style
    n: int
    score: float | None
    low: float | None
    high: float | None
    delta: float | None
    delta_low: float | None
    delta_high: float | None
    form: Form
    against: Style | None
    ungraded: int


def compare(results: Mapping[str, Sequence[ItemResult]], baseline: str) -> list[Row]:
    """Return a row for each task, metric, model (in the order given) and style.

    Tasks and metrics come in the order in which the baseline's results have them.

    Raises ValueError if the baseline is missing, an item occurs twice, or two models were asked
    different items.
    """
    if baseline not in results:
        raise ValueError(f"no results of the baseline `{baseline}`")
    grouped = {model: _by_subject(model, items) for model, items in results.items()}
    for model in results:
        _check_same_items(grouped[baseline], grouped[model], baseline, model)
    rows: list[Row] = []
    for subject, styles in grouped[baseline].items():
        against = _best_style(styles, subject[1])
        for model, subjects in grouped.items():
            for style in STYLES:
                if style in subjects[subject]:
                    items = subjects[subject][style]
                    reference = None if model == baseline else (against, styles[against])
                    rows.append(_row(model, items, reference))
    return rows


def best_rows(rows: Sequence[Row]) -> list[Row]:
    """Return each model's best style on each task and metric, in the order of the rows."""
    best: dict[tuple[str, ItemMetric, str], Row] = {}
    for row in rows:
        key = (row.task, row.metric, row.model)
        if key not in best or _goodness(row.score, row.metric) > _goodness(
            best[key].score, row.metric
        ):
            best[key] = row
    return list(best.values())


def _by_subject(model: str, results: Sequence[ItemResult]) -> dict[Subject, dict[Style, Items]]:
    grouped: dict[Subject, dict[Style, Items]] = {}
    for result in results:
        styles = grouped.setdefault((result.task, result.metric), {})
        items = styles.setdefault(result.style, {})
        if result.item in items:
            raise ValueError(
                f"`{model}` has two results for item `{result.item}` of "
                f"`{result.task}`, {result.style}"
            )
        items[result.item] = result
    return grouped


def _check_same_items(
    expected: dict[Subject, dict[Style, Items]],
    found: dict[Subject, dict[Style, Items]],
    baseline: str,
    model: str,
) -> None:
    for task, metric in [*expected, *found]:
        if (task, metric) not in found or (task, metric) not in expected:
            lacking = model if (task, metric) not in found else baseline
            raise ValueError(f"`{lacking}` has no {metric} of `{task}`, which others have")
        wanted = next(iter(expected[task, metric].values())).keys()
        for style, items in [*expected[task, metric].items(), *found[task, metric].items()]:
            if items.keys() != wanted:
                example = min(items.keys() ^ wanted)
                raise ValueError(
                    f"`{baseline}` and `{model}` were not asked the same items of `{task}` "
                    f"({metric}, {style}): {len(wanted)} and {len(items)}, only one has `{example}`"
                )


def _best_style(styles: dict[Style, Items], metric: ItemMetric) -> Style:
    """Return the style with the best score; the first of equals."""
    known: list[Style] = [style for style in STYLES if style in styles]
    return max(known, key=lambda style: _goodness(_score(_graded(styles[style])), metric))


def _goodness(score: float | None, metric: ItemMetric) -> float:
    if score is None:
        return -math.inf
    return -score if metric in LOWER_IS_BETTER else score


def _graded(items: Items) -> Items:
    return {item: result for item, result in items.items() if result.score is not None}


def _scores(items: Iterable[ItemResult]) -> list[float]:
    return [result.score for result in items if result.score is not None]


def _weights(items: Iterable[ItemResult]) -> list[float] | None:
    """Return None where all items count the same: 0/1 scores then get the closed form."""
    weights = [result.weight for result in items]
    return None if all(weight == 1.0 for weight in weights) else weights


def _score(graded: Items) -> float | None:
    return mean(_scores(graded.values()), _weights(graded.values())) if graded else None


def _row(model: str, items: Items, against: tuple[Style, Items] | None) -> Row:
    first = next(iter(items.values()))
    graded = _graded(items)
    interval = mean_interval(_scores(graded.values()), _weights(graded.values()))
    delta: float | None = None
    delta_interval: Interval | None = None
    paired = graded
    if against is not None:
        reference = _graded(against[1])
        paired = {item: result for item, result in graded.items() if item in reference}
        if paired:
            delta, delta_interval = paired_difference(
                _scores(paired.values()),
                _scores(reference[item] for item in paired),
                _weights(paired.values()),
            )
    return Row(
        task=first.task,
        metric=first.metric,
        model=model,
        style=first.style,
        n=len(graded),
        score=_score(graded),
        low=interval.low if interval else None,
        high=interval.high if interval else None,
        delta=delta,
        delta_low=delta_interval.low if delta_interval else None,
        delta_high=delta_interval.high if delta_interval else None,
        form=first.form,
        against=against[0] if against else None,
        ungraded=len(items) - len(paired),
    )
