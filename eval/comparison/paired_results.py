"""What the rows of a comparison are computed from: item results, grouped and paired.

The baseline is asked in every style too, and a candidate is measured against the baseline's best
one: the harder and more honest comparison, since a base model often fails only to understand what
is wanted. Win rates alone (see `eval.comparison.preference`) are taken in the same style. Several
samples of
an item make one score of it: items are what a comparison counts. No table is made here: see
`eval.comparison.score_rows`. Imports no torch.
"""

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial

from eval.comparison.preference import Preference, find_preferences
from eval.comparison.tool_use import fill_tool_results
from eval.model import Form
from eval.results import CHOICE, REWARD, STYLES, VERIFIED, ItemResult, Style
from eval.statistics.intervals import (
    Interval,
    mcnemar_exact,
    mean,
    mean_interval,
    paired_difference,
)
from eval.statistics.pass_at_k import pass_at_k
from eval.statistics.power import minimum_detectable_difference
from eval.statistics.win_rate import equal_length_win_rate, win_rate

WIN_RATE = "win_rate"
EQUAL_LENGTH = "win_rate_equal_length"

Answers = Mapping[str, Sequence[ItemResult]]  # an item's results, one a sample
Subject = tuple[str, str]  # task and metric
Way = tuple[Style, int]  # style and shots
_Grouped = dict[Subject, dict[Way, dict[str, list[ItemResult]]]]
_ByModel = Mapping[str, dict[Way, dict[str, list[ItemResult]]]]
_Score = Callable[[Sequence[ItemResult]], float | None]


@dataclass(frozen=True)
class RowItems:
    """What a row is computed from, by item.

    metric: as of the items; `pass@k` (Chen et al. 2021); `win_rate`, on how many items the response
        is preferred to the baseline's, a tie counting half; `win_rate_equal_length`, on how
        many it would be if both were equally long.
    against: how the baseline was asked where it did best: what differences are taken against. For
        win rates the same way. None for the baseline itself.
    answers: all that the model answered. scores, weights: of the graded items.
    reference: the baseline's scores of those of them that both graded; empty where nothing is
        subtracted. reference_answers: what the baseline answered.
    """

    task: str
    metric: str
    model: str
    style: Style
    shots: int
    form: Form
    lower_is_better: bool
    against: Way | None
    answers: Answers
    scores: Mapping[str, float]
    weights: Mapping[str, float]
    reference: Mapping[str, float] = field(default_factory=dict[str, float])
    reference_answers: Answers = field(default_factory=dict[str, Sequence[ItemResult]])
    figure: tuple[float, Interval | None] | None = None

    @property
    def ungraded(self) -> int:
        """Items left out because they, or the baseline's answers to them, could not be graded."""
        is_difference = self.against is not None and not self.is_win_rate
        return len(self.answers) - len(self.reference if is_difference else self.scores)

    @property
    def is_derived(self) -> bool:
        """Whether the metric is made of another one's answers."""
        return self.is_win_rate or self.metric.startswith("pass@")

    @property
    def is_asked(self) -> bool:
        """Whether the metric is one that questions were asked for."""
        return self.style != "none" and not self.is_derived

    @property
    def is_win_rate(self) -> bool:
        """Whether the score itself compares with the baseline."""
        return self.metric in (WIN_RATE, EQUAL_LENGTH)

    @property
    def samples(self) -> int:
        """Responses to each item."""
        return max(len(answers) for answers in self.answers.values())

    @property
    def tokens(self) -> float | None:
        """The mean length of the written responses; None where nothing is written."""
        if self.style == "none" or self.metric == CHOICE:
            return None
        lengths = [a.num_tokens for answers in self.answers.values() for a in answers]
        lengths = [length for length in lengths if length > 0]
        return mean(lengths) if lengths else None

    @property
    def score(self) -> float | None:
        """The mean of the graded items."""
        if self.figure is not None:
            return self.figure[0]
        return mean(*self.listed(self.scores)) if self.scores else None

    @property
    def delta(self) -> float | None:
        """The mean minus the baseline's on the items that both graded."""
        if not self.reference:
            return None
        return mean(*self.listed(self.paired)) - mean(*self.listed(self.reference))

    @property
    def paired(self) -> dict[str, float]:
        """The scores of the items that the baseline's best way of asking graded too."""
        return {item: self.scores[item] for item in self.reference}

    def score_interval(self) -> Interval | None:
        """Return the 95% interval of `score`; None where nothing or too little was graded."""
        if self.figure is not None:
            return self.figure[1]
        return mean_interval(*self.listed(self.scores))

    def delta_interval(self) -> Interval | None:
        """Return the 95% interval of `delta`."""
        if not self.reference:
            return None
        ours, weights = self.listed(self.paired)
        return paired_difference(ours, list(self.reference.values()), weights)[1]

    def p_value(self) -> float | None:
        """Return McNemar's exact p of the difference; None unless items are right or wrong."""
        if not self._is_right_or_wrong:
            return None
        return mcnemar_exact(list(self.paired.values()), list(self.reference.values()))

    def detectable(self) -> float | None:
        """Return the difference that as many items mostly show; None unless right or wrong."""
        flips = self.flips()
        if not self._is_right_or_wrong or flips is None:
            return None
        n = len(self.reference)
        return minimum_detectable_difference(n, sum(map(len, flips)) / n)

    def flips(self) -> tuple[list[str], list[str]] | None:
        """Return the items that only this model has right, and those that only the baseline has.

        Right is a score above 0.5: of several samples, most of them. None where there is no
        difference, or scores are no shares of what is right.
        """
        scores = [*self.scores.values(), *self.reference.values()]
        if not self.reference or self.lower_is_better or not all(0 <= s <= 1 for s in scores):
            return None
        right = {item: score > 0.5 for item, score in self.paired.items()}
        before = {item: score > 0.5 for item, score in self.reference.items()}
        gained = [item for item in right if right[item] and not before[item]]
        return gained, [item for item in right if before[item] and not right[item]]

    def difference_to(self, other: "RowItems") -> tuple[float, Interval | None] | None:
        """Return what the score gains over another row's on shared items, with its interval."""
        shared = {item: score for item, score in self.scores.items() if item in other.scores}
        if not shared:
            return None
        ours, weights = self.listed(shared)
        return paired_difference(ours, [other.scores[item] for item in shared], weights)

    @property
    def _is_right_or_wrong(self) -> bool:
        """Whether one answer to each item is wholly right or wrong, in both models."""
        scores = {*self.paired.values(), *self.reference.values()}
        return bool(self.reference) and scores <= {0.0, 1.0} and self.samples == 1

    def listed(self, scores: Mapping[str, float]) -> tuple[list[float], list[float] | None]:
        """Return scores and weights; None where all weigh the same: 0/1 get the closed form."""
        weights = [self.weights[item] for item in scores]
        return list(scores.values()), None if all(w == 1.0 for w in weights) else weights


def pair_results(
    results: Mapping[str, Sequence[ItemResult]], baseline: str, *, pass_at: Sequence[int] = ()
) -> list[RowItems]:
    """Return what each row of a comparison is computed from, in order.

    Tasks and metrics come in the order in which the baseline's results have them, models in the
    order given, ways of asking as in `STYLES`, a task's win rates after its scores.
    pass_at: pass@k is computed for these k, and for powers of two up to the samples that there are.

    Raises ValueError if the baseline is missing, a sample of an item occurs twice, two models were
    asked different items, or there are too few samples for a k.
    """
    if baseline not in results:
        raise ValueError(f"no results of the baseline `{baseline}`")
    filled = fill_tool_results(results)
    grouped = {model: _by_subject(model, items) for model, items in filled.items()}
    for model in results:
        _check_same_items(grouped[baseline], grouped[model], baseline, model)
    rows: list[RowItems] = []
    for task in dict.fromkeys(task for task, _ in grouped[baseline]):
        for subject in grouped[baseline]:
            if subject[0] != task:
                continue
            by_model = {model: found[subject] for model, found in grouped.items()}
            rows += _scored(by_model, baseline, subject[1], _mean_score)
            if subject[1] == VERIFIED:
                for k in pass_counts(_samples(by_model), pass_at):
                    rows += _scored(by_model, baseline, f"pass@{k}", partial(_passed, k=k))
        for judged in ((task, VERIFIED), (task, REWARD)):
            if judged in grouped[baseline]:
                rates = _preferred({m: found[judged] for m, found in grouped.items()}, baseline)
                rows += sorted(rates, key=lambda row: row.metric == EQUAL_LENGTH)
    return rows


def goodness(score: float | None, *, lower_is_better: bool) -> float:
    """Return what is greater for a better score; nothing is worse than no score."""
    if score is None:
        return -math.inf
    return -score if lower_is_better else score


def pass_counts(samples: int, pass_at: Sequence[int]) -> list[int]:
    """Return the k of the pass@k that so many samples give, ascending; see `pair_results`."""
    for k in pass_at:
        if k > samples:
            raise ValueError(f"pass@{k} takes at least {k} samples of an item; there are {samples}")
    return sorted({*(2**power for power in range(1, samples.bit_length())), *pass_at})


def _mean_score(answers: Sequence[ItemResult]) -> float | None:
    """Return the mean over an item's graded samples, whose expectation is pass@1."""
    graded = [answer.score for answer in answers if answer.score is not None]
    return mean(graded) if graded else None


def _passed(answers: Sequence[ItemResult], k: int) -> float | None:
    """Return how likely one of k samples is wholly right; None for fewer graded samples."""
    graded = [answer.score for answer in answers if answer.score is not None]
    num_right = sum(score == 1.0 for score in graded)
    return pass_at_k(len(graded), num_right, k) if len(graded) >= k else None


def _samples(by_model: _ByModel) -> int:
    """Return the most samples that any model gave of an item."""
    ways = (items for found in by_model.values() for items in found.values())
    return max(len(answers) for items in ways for answers in items.values())


def _scored(by_model: _ByModel, baseline: str, metric: str, score: _Score) -> Iterator[RowItems]:
    """Yield one metric's scores of each model and way, candidates' with the baseline's best."""
    rows = list(_measured(by_model, metric, score))
    own = [row for row in rows if row.model == baseline]
    # The first of equals.
    best = max(own, key=lambda row: goodness(row.score, lower_is_better=row.lower_is_better))
    for row in rows:
        if row.model == baseline:
            yield row
            continue
        yield replace(
            row,
            against=(best.style, best.shots),
            reference={item: best.scores[item] for item in row.scores if item in best.scores},
            reference_answers=best.answers,
        )


def _preferred(by_model: _ByModel, baseline: str) -> Iterator[RowItems]:
    """Yield the candidates' win rates over the baseline, both asked in the same way.

    None where no item has two gold scores, or where lengths cannot be told from preference.
    """
    for row in _measured(by_model, WIN_RATE, _mean_score):
        way = _same_way(by_model[baseline], (row.style, row.shots))
        if row.model == baseline or way is None:
            continue
        theirs = by_model[baseline][way]
        found = find_preferences(row.answers, theirs)
        outcomes, items = [each.outcome for each in found], [each.item for each in found]
        if not found:
            continue
        by_item: dict[str, list[float]] = {}
        for each in found:
            by_item.setdefault(each.item, []).append(each.outcome)
        rate = replace(
            row,
            against=way,
            scores={item: mean(each) for item, each in by_item.items()},
            weights=dict.fromkeys(by_item, 1.0),
            reference_answers=theirs,
            figure=win_rate(outcomes, items),
        )
        yield rate
        adjusted = _at_equal_length(found)
        if adjusted is not None:
            yield replace(rate, metric=EQUAL_LENGTH, figure=adjusted)


def _at_equal_length(found: Sequence[Preference]) -> tuple[float, Interval] | None:
    """Return the win rate at equal length, where both outcomes and both lengths occur.

    Where one model is always the longer, responses of equal length lie outside of what was seen:
    the regression then gave 0.00 where the win rate was 0.81. With nothing but ties it is certain.
    """
    lengths = [each.length_difference for each in found]
    outcomes = [each.outcome for each in found]
    if not min(outcomes) < 0.5 < max(outcomes) or not min(lengths) < 0 < max(lengths):
        return None
    return equal_length_win_rate(outcomes, lengths, [each.item for each in found])


def _same_way(known: Mapping[Way, object], way: Way) -> Way | None:
    """Return the way of asking that is the same, or the only one in the same style.

    A chain of thought takes demonstrations from a base model and none from a chat model.
    """
    alike = [other for other in known if other[0] == way[0]]
    if way in known:
        return way
    return alike[0] if way[0] == "chain-of-thought" and len(alike) == 1 else None


def _measured(by_model: _ByModel, metric: str, score: _Score) -> Iterator[RowItems]:
    """Yield each model's scores in each way of asking, zero-shot first."""
    for model, ways in by_model.items():
        for style, shots in sorted(ways, key=lambda way: (STYLES.index(way[0]), way[1])):
            answers = ways[style, shots]
            first = next(iter(answers.values()))[0]
            scores = {item: value for item, a in answers.items() if (value := score(a)) is not None}
            yield RowItems(
                task=first.task,
                metric=metric,
                model=model,
                style=style,
                shots=shots,
                form=first.form,
                lower_is_better=first.lower_is_better,
                against=None,
                answers=answers,
                scores=scores,
                weights={item: answers[item][0].weight for item in scores},
            )


def _by_subject(model: str, results: Sequence[ItemResult]) -> _Grouped:
    grouped: _Grouped = {}
    for result in sorted(results, key=lambda result: result.sample):
        ways = grouped.setdefault((result.task, result.metric), {})
        answers = ways.setdefault((result.style, result.shots), {}).setdefault(result.item, [])
        if answers and answers[-1].sample == result.sample:
            raise ValueError(
                f"`{model}` has two results for item `{result.item}` of "
                f"`{result.task}`, {result.style}"
            )
        answers.append(result)
    return grouped


def _check_same_items(expected: _Grouped, found: _Grouped, baseline: str, model: str) -> None:
    for task, metric in [*expected, *found]:
        if (task, metric) not in found or (task, metric) not in expected:
            lacking = model if (task, metric) not in found else baseline
            raise ValueError(f"`{lacking}` has no {metric} of `{task}`, which others have")
        wanted = next(iter(expected[task, metric].values())).keys()
        for ways in (expected[task, metric], found[task, metric]):
            for (style, _), items in ways.items():
                if items.keys() != wanted:
                    example = min(items.keys() ^ wanted)
                    raise ValueError(
                        f"`{baseline}` and `{model}` were not asked the same items of `{task}` "
                        f"({metric}, {style}): {len(wanted)} and {len(items)}, "
                        f"only one has `{example}`"
                    )
