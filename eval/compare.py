"""The comparison of models with a baseline, computed from their item results.

The baseline is asked in every style too, and a candidate is measured against the baseline's best
one: the harder and more honest comparison, since a base model often fails only to understand what
is wanted. Win rates alone (see `eval.preference`) are taken in the same style. Imports no torch.
"""

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Literal

from eval.model import Form
from eval.preference import preferred, win_rate_interval
from eval.run import ItemMetric, ItemResult, Style
from eval.statistics import Interval, mean, mean_interval, paired_difference

RowMetric = ItemMetric | Literal["win_rate"]
LOWER_IS_BETTER: frozenset[RowMetric] = frozenset({"bits_per_byte"})
STYLES: tuple[Style, ...] = ("zero-shot", "few-shot", "none")

Items = dict[str, ItemResult]
Subject = tuple[str, ItemMetric]


@dataclass(frozen=True)
class Row:
    """One model's score on one task, asked in one style, and what it gained over the baseline.

    metric: as of the items; or `win_rate`, on how many items the response is preferred to the
        baseline's in the same style, a tie counting half. The baseline has no such row.
    n, score, low, high: graded items, their mean (bits per byte: total bits / total bytes) and its
        95% interval; None where nothing was graded, or too little for an interval.
    delta, delta_low, delta_high: score minus the baseline's on the items that both graded, with its
        95% interval; None for the baseline itself and for win rates.
    form: how it was asked, as a document or through its chat template.
    against: the baseline's style with the best score, which `delta` is taken against.
    ungraded: items left out because they, or the baseline's answers to them, could not be graded.
    """

    task: str
    metric: RowMetric
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


@dataclass(frozen=True)
class RowItems:
    """What a row is computed from, by item.

    scores, weights: of the graded items. reference: the baseline's scores of those of them that
    both graded; empty where nothing is subtracted. num_asked: graded or not.
    """

    task: str
    metric: RowMetric
    model: str
    style: Style
    form: Form
    against: Style | None
    num_asked: int
    scores: Mapping[str, float]
    weights: Mapping[str, float]
    reference: Mapping[str, float] = field(default_factory=dict[str, float])

    @property
    def ungraded(self) -> int:
        """Items left out because they, or the baseline's answers to them, could not be graded."""
        is_difference = self.against is not None and self.metric != "win_rate"
        return self.num_asked - len(self.reference if is_difference else self.scores)

    @property
    def score(self) -> float | None:
        """The mean of the graded items."""
        return mean(*self._listed(self.scores)) if self.scores else None

    @property
    def delta(self) -> float | None:
        """The mean minus the baseline's on the items that both graded."""
        if not self.reference:
            return None
        ours = {item: self.scores[item] for item in self.reference}
        return mean(*self._listed(ours)) - mean(*self._listed(self.reference))

    def score_interval(self) -> Interval | None:
        """Return the 95% interval of `score`; None where nothing or too little was graded."""
        if self.metric == "win_rate":
            return win_rate_interval(list(self.scores.values()))
        return mean_interval(*self._listed(self.scores))

    def delta_interval(self) -> Interval | None:
        """Return the 95% interval of `delta`."""
        if not self.reference:
            return None
        ours, weights = self._listed({item: self.scores[item] for item in self.reference})
        return paired_difference(ours, list(self.reference.values()), weights)[1]

    def _listed(self, scores: Mapping[str, float]) -> tuple[list[float], list[float] | None]:
        """Return scores and weights; None where all weigh the same: 0/1 get the closed form."""
        weights = [self.weights[item] for item in scores]
        return list(scores.values()), None if all(w == 1.0 for w in weights) else weights


def compare(results: Mapping[str, Sequence[ItemResult]], baseline: str) -> list[Row]:
    """Return a row for each task, metric, model (in the order given) and style.

    Tasks and metrics come in the order in which the baseline's results have them, a task's win
    rates after its scores.

    Raises ValueError if the baseline is missing, an item occurs twice, or two models were asked
    different items.
    """
    return [_row(items) for items in row_items(results, baseline)]


def row_items(results: Mapping[str, Sequence[ItemResult]], baseline: str) -> list[RowItems]:
    """Return what each row of `compare` is computed from, in their order; raises as it does."""
    if baseline not in results:
        raise ValueError(f"no results of the baseline `{baseline}`")
    grouped = {model: _by_subject(model, items) for model, items in results.items()}
    for model in results:
        _check_same_items(grouped[baseline], grouped[model], baseline, model)
    rows: list[RowItems] = []
    for task in dict.fromkeys(task for task, _ in grouped[baseline]):
        for subject in grouped[baseline]:
            if subject[0] == task:
                styles_by_model = {model: found[subject] for model, found in grouped.items()}
                rows += _scored(styles_by_model, baseline)
        written: Subject = (task, "verified_accuracy")
        if written in grouped[baseline]:
            rows += _preferred({m: found[written] for m, found in grouped.items()}, baseline)
    return rows


def best_rows(rows: Sequence[Row]) -> list[Row]:
    """Return each model's best style on each task and metric, in the order of the rows."""
    best: dict[tuple[str, RowMetric, str], Row] = {}
    for row in rows:
        key = (row.task, row.metric, row.model)
        if key not in best or _goodness(row.score, row.metric) > _goodness(
            best[key].score, row.metric
        ):
            best[key] = row
    return list(best.values())


def _scored(styles_by_model: Mapping[str, dict[Style, Items]], baseline: str) -> Iterator[RowItems]:
    """Yield one subject's scores of each model and style, candidates' with the baseline's best."""
    own = [row for row in _measured(styles_by_model) if row.model == baseline]
    best = max(own, key=lambda row: _goodness(row.score, row.metric))  # the first of equals
    for row in _measured(styles_by_model):
        if row.model == baseline:
            yield row
            continue
        reference = {item: best.scores[item] for item in row.scores if item in best.scores}
        yield replace(row, against=best.style, reference=reference)


def _preferred(
    styles_by_model: Mapping[str, dict[Style, Items]], baseline: str
) -> Iterator[RowItems]:
    """Yield the candidates' outcomes against the baseline in each style that both were asked in.

    None where no item has two gold scores, as in results of older versions.
    """
    for row in _measured(styles_by_model):
        theirs = styles_by_model[baseline].get(row.style)
        if row.model == baseline or theirs is None:
            continue
        outcomes = preferred(styles_by_model[row.model][row.style], theirs)
        if outcomes:
            yield replace(
                row,
                metric="win_rate",
                against=row.style,
                scores=outcomes,
                weights=dict.fromkeys(outcomes, 1.0),
            )


def _measured(styles_by_model: Mapping[str, dict[Style, Items]]) -> Iterator[RowItems]:
    """Yield each model's scores in each style, zero-shot first."""
    for model, styles in styles_by_model.items():
        for style in STYLES:
            if style not in styles:
                continue
            items = styles[style]
            first = next(iter(items.values()))
            graded = {item: r.score for item, r in items.items() if r.score is not None}
            yield RowItems(
                task=first.task,
                metric=first.metric,
                model=model,
                style=style,
                form=first.form,
                against=None,
                num_asked=len(items),
                scores=graded,
                weights={item: items[item].weight for item in graded},
            )


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


def _goodness(score: float | None, metric: RowMetric) -> float:
    if score is None:
        return -math.inf
    return -score if metric in LOWER_IS_BETTER else score


def _row(items: RowItems) -> Row:
    interval, delta_interval = items.score_interval(), items.delta_interval()
    return Row(
        task=items.task,
        metric=items.metric,
        model=items.model,
        style=items.style,
        n=len(items.scores),
        score=items.score,
        low=interval.low if interval else None,
        high=interval.high if interval else None,
        delta=items.delta,
        delta_low=delta_interval.low if delta_interval else None,
        delta_high=delta_interval.high if delta_interval else None,
        form=items.form,
        against=items.against,
        ungraded=items.ungraded,
    )
