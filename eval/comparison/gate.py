"""May a candidate ship? Bounds on a comparison's intervals, and which of them hold.

A gate looks at the end of a 95% interval, never at a figure alone: `delta_low: 0` asks for a gain
that is clear of chance, `delta_low: -0.02` for a loss that is surely less than 0.02. A `clear_loss`
is clear of chance, and is itself held against the bound. Rows are known here, recipes are not.

A key names a row by its task, and where that is not enough its metric, style and shots:
`arithmetic`, `arithmetic choice_accuracy`, `arithmetic verified_accuracy few-shot 3`. Without a
metric verified accuracy is meant if there is one, else the task's first; without a style, each
model's best. `all` names each task. A text is named by its label, or by its file's name without
ending and `_bpb`: `wikitext_bpb` is `data/wikitext.txt bits_per_byte`.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from pathlib import PurePosixPath

from eval.comparison.paired_results import WIN_RATE
from eval.comparison.score_rows import Row, pick_best_rows
from eval.results import BITS_PER_BYTE, STYLES, VERIFIED, Style

EVERY_TASK = "all"
_BPB = "_bpb"
_CLEAR_LOSS = "clear_loss"
_FIGURES = {"delta": "difference", "score": "score", "win_rate": "win rate"}


@dataclass(frozen=True)
class Bounds:
    """What a row must keep to; the names begin with the figure whose 95% interval is looked at.

    delta_low, score_low, win_rate_low: the lower end must not be below it. delta_high, score_high:
    the upper end must not be above it. delta: over the baseline's best style. win_rate: over the
    baseline in the same style, whatever metric the key names.
    clear_loss: what may be lost against the baseline's best style; more of it, with an interval
    that is clear of 0, does not hold.
    """

    delta_low: float | None = None
    delta_high: float | None = None
    score_low: float | None = None
    score_high: float | None = None
    win_rate_low: float | None = None
    clear_loss: float | None = None

    def given(self) -> dict[str, float]:
        """Return the bounds that are set, by name."""
        return {name: limit for name, limit in vars(self).items() if limit is not None}


@dataclass(frozen=True)
class Named:
    """The rows that a key names; None leaves open."""

    task: str
    metric: str
    style: Style | None = None
    shots: int | None = None

    def covers(self, row: Row) -> bool:
        """Return whether a row of any model is one of them."""
        return (
            (row.task, row.metric) == (self.task, self.metric)
            and self.style in (None, row.style)
            and self.shots in (None, row.shots)
        )


@dataclass(frozen=True)
class Condition:
    """One bound on one row. value: the end of the interval; None where it was not measured."""

    key: str
    bound: str
    limit: float
    value: float | None
    holds: bool
    metric: str
    style: Style | None
    shots: int | None
    reason: str


@dataclass(frozen=True)
class Verdict:
    """Whether one candidate ships: if all conditions hold."""

    model: str
    ships: bool
    conditions: tuple[Condition, ...]

    @property
    def failed(self) -> tuple[Condition, ...]:
        """The conditions that do not hold."""
        return tuple(condition for condition in self.conditions if not condition.holds)


@dataclass(frozen=True)
class GateResult:
    """ships: all candidates do."""

    ships: bool
    verdicts: tuple[Verdict, ...]


def judge(rows: Sequence[Row], gate: Mapping[str, Bounds], baseline: str) -> GateResult:
    """Return the verdict on each model but the baseline, in their order.

    Raises ValueError for a key that names no row.
    """
    metrics_by_task: dict[str, list[str]] = {}
    for row in rows:
        metrics_by_task.setdefault(row.task, []).append(row.metric)
    asked = [
        (key, resolve(key, metrics_by_task), each) for key, each in spread(gate, metrics_by_task)
    ]
    for key, named, bounds in asked:
        check_bounds(key, named, bounds)
        for each in {named, *(_meant(named, bound) for bound in bounds.given())}:
            if not any(each.covers(row) and row.model != baseline for row in rows):
                raise ValueError(f"the gate's `{key}` names {_said(each)}, which was not measured")
    verdicts: list[Verdict] = []
    for model in dict.fromkeys(row.model for row in rows if row.model != baseline):
        own = [row for row in rows if row.model == model]
        conditions = tuple(
            _condition(key, bound, limit, _meant(named, bound), own)
            for key, named, bounds in asked
            for bound, limit in bounds.given().items()
        )
        verdicts.append(Verdict(model, all(each.holds for each in conditions), conditions))
    return GateResult(all(verdict.ships for verdict in verdicts), tuple(verdicts))


def spread(
    gate: Mapping[str, Bounds], metrics_by_task: Mapping[str, Sequence[str]]
) -> list[tuple[str, Bounds]]:
    """Return the gate's keys with their bounds, each task's own in the place of `all`.

    Raises ValueError for an `all` where no task is measured: texts are none, as their bits per byte
    have a scale of their own.
    """
    tasks = [task for task, metrics in metrics_by_task.items() if set(metrics) != {BITS_PER_BYTE}]
    if EVERY_TASK in gate and not tasks:
        raise ValueError(f"`{EVERY_TASK}` names every task, and none is measured")
    return [
        (each, bounds)
        for key, bounds in gate.items()
        for each in (tasks if key == EVERY_TASK else [key])
    ]


def resolve(key: str, metrics_by_task: Mapping[str, Sequence[str]]) -> Named:
    """Return what a key names. metrics_by_task: what there is; empty where metrics are not known.

    Raises ValueError, with what there is, for a key that names nothing.
    """
    fitting = [task for task in metrics_by_task if key == task or key.startswith(f"{task} ")]
    if not fitting:
        return _text(key, metrics_by_task)
    task = max(fitting, key=len)
    words = key[len(task) :].split()
    metrics = metrics_by_task[task]
    default = VERIFIED if VERIFIED in metrics or not metrics else metrics[0]
    metric = words[0] if words else default
    if metrics and metric not in metrics:
        known = ", ".join(dict.fromkeys(metrics))
        raise ValueError(
            f"`{task}` has no metric `{metric}`; {_guess(metric, metrics)}it has {known}"
        )
    if len(words) < 2:
        return Named(task, metric)
    if words[1] not in STYLES:
        raise ValueError(f"`{words[1]}` is not a style; styles are {', '.join(STYLES)}")
    style = STYLES[STYLES.index(words[1])]
    if len(words) == 2:
        return Named(task, metric, style)
    if len(words) > 3 or not words[2].isdecimal():
        raise ValueError(f"`{key}` is not of the form `task metric style shots`")
    return Named(task, metric, style, int(words[2]))


def check_bounds(key: str, named: Named, bounds: Bounds) -> None:
    """Raise ValueError for a bound that the row cannot have."""
    for bound in bounds.given():
        if bound.startswith(("delta", _CLEAR_LOSS)) and named.metric.startswith(WIN_RATE):
            raise ValueError(
                f"`{key}` has no `{bound}`: a win rate is a difference; use `score_low`"
            )


def _text(key: str, metrics_by_task: Mapping[str, Sequence[str]]) -> Named:
    """Return the text whose stem with `_bpb` the key is."""
    texts = [
        task
        for task, metrics in metrics_by_task.items()
        if BITS_PER_BYTE in metrics and key == PurePosixPath(task).stem + _BPB
    ]
    if len(texts) == 1:
        return Named(texts[0], BITS_PER_BYTE)
    if texts:
        both = " and ".join(f"`{text}`" for text in texts)
        raise ValueError(f"`{key}` could be {both}; write which, with bits_per_byte after it")
    known = ", ".join(metrics_by_task) or "nothing"
    near = _guess(key.split()[0] if key.split() else key, metrics_by_task)
    raise ValueError(f"nothing that is measured is called `{key}`; {near}there is {known}")


def _guess(word: str, known: Sequence[str] | Mapping[str, object]) -> str:
    near = get_close_matches(word, list(known), n=1)
    return f"did you mean `{near[0]}`? " if near else ""


def _meant(named: Named, bound: str) -> Named:
    """Return which row a bound is on: of win rates, that of the task."""
    if not bound.startswith(WIN_RATE) or named.metric.startswith(WIN_RATE):
        return named
    return Named(named.task, WIN_RATE, named.style, named.shots)


def _condition(key: str, bound: str, limit: float, named: Named, rows: Sequence[Row]) -> Condition:
    """Return whether one model's best row of those that are named keeps to a bound."""
    best = pick_best_rows([row for row in rows if named.covers(row)])
    row = best[0] if best else None
    found = _loss(row, limit) if bound == _CLEAR_LOSS else _end(row, bound, limit)
    value, holds, reason = found
    asked = named if row is None else Named(row.task, row.metric, row.style, row.shots)
    return Condition(
        key=key,
        bound=bound,
        limit=limit,
        value=value,
        holds=holds,
        metric=asked.metric,
        style=asked.style,
        shots=asked.shots,
        reason=f"{_said(asked)}: {reason}",
    )


def _end(row: Row | None, bound: str, limit: float) -> tuple[float | None, bool, str]:
    """Return the end of the interval that a bound is on, whether it holds, and what was found."""
    figure, _, end = bound.rpartition("_")
    value = None
    if row is not None:
        ends = (row.delta_low, row.delta_high) if figure == "delta" else (row.low, row.high)
        value = ends[end == "high"]
    holds = value is not None and (value >= limit if end == "low" else value <= limit)
    return value, holds, _reason(_FIGURES[figure], end, value, limit)


def _loss(row: Row | None, limit: float) -> tuple[float | None, bool, str]:
    """Return the same of a loss: the end of the difference's interval that is nearer to a gain."""
    difference = row.difference if row is not None else None
    if row is None or difference is None:
        return None, False, _reason(_FIGURES["delta"], "", None, limit)
    end = difference.low if row.lower_is_better else difference.high
    loss = difference.value if row.lower_is_better else -difference.value
    if row.verdict != "loss":
        return (
            end,
            True,
            f"the difference, {difference.value:+.4g}, is no loss that is clear of chance",
        )
    relation = "more than" if loss > limit else "no more than"
    return end, loss <= limit, f"a loss of {loss:.4g}, clear of chance, is {relation} {limit:g}"


def _reason(figure: str, end: str, value: float | None, limit: float) -> str:
    """Return what was found, as `the lower end of the difference, -0.04, is below 0`."""
    if value is None:
        return f"the {figure} has no interval: too little was graded"
    place = "lower" if end == "low" else "upper"
    relation = "below" if value < limit else "above" if value > limit else "at"
    return f"the {place} end of the {figure}, {value:.4g}, is {relation} {limit:g}"


def _said(named: Named) -> str:
    style = f", {named.style}" if named.style not in (None, "none") else ""
    return f"{named.task} {named.metric}{style}" + (f" {named.shots}" if named.shots else "")
