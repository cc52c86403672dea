"""Guards: looks at each rollout for signs of reward hacking, and says when one shows.

Nothing here changes what is trained, unless a sign was asked to stop it. Means of a few rollouts
are compared, never single ones, and must differ by more than a bound and by more than chance, so
that noise shows no sign. What each sign is told by: signs.py; the tests: eval/statistics/.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from statistics import fmean, median
from typing import TYPE_CHECKING, Any

from eval.statistics.drift import (
    LEVEL_OF_A_LOOK,
    has_parted,
    is_higher,
    is_look,
    peak_of,
    quarters,
)
from eval.statistics.sameness import distinct_share, repeated_share, shared_share
from pipeline.rewards.responses import REFERENCE
from pipeline.rl.signs import (
    GOLD,
    PREFIX,
    SIGN_NAMES,
    SIGNS,
    STOPPED,
    WINDOW,
    Shown,
    SignName,
    bounds_of,
)

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from pipeline.rl.prompts import Prompt
    from pipeline.rl.rollout import ScoredRow

_BEFORE = 2 * WINDOW  # rollouts that a jump is told against
_LEVEL = 0.01  # one-sided; the bounds, not the test, are what a training must go beyond
_SCORE, _SPREAD, _HELD_OUT = "score", "spread", "held_out/"
# Where the signs that need no text are read from a rollout's metrics.
_MEASURED: Mapping[SignName, str] = {
    "length": "completions/length_mean",
    "entropy": "objective/entropy",
    "kl": "objective/kl",
}

Numbers = dict[str, float | None]


@dataclass
class GuardState:
    """What the guards hold between rollouts, as JSON: it goes into checkpoints.

    measured: of every rollout so far, None where it could not be told. shown: the signs that
    showed. stopped_by: the one by which training stops, None while it goes on.
    """

    measured: dict[str, list[float | None]] = field(default_factory=dict[str, list[float | None]])
    shown: list[dict[str, Any]] = field(default_factory=list[dict[str, Any]])
    stopped_by: dict[str, Any] | None = None

    @property
    def num_rollouts(self) -> int:
        """How many rollouts were looked at."""
        return len(next(iter(self.measured.values()), ()))

    def known(self, name: str) -> list[float]:
        """Return what was measured by a name, of the rollouts where it could be."""
        return [value for value in self.measured.get(name, ()) if value is not None]

    def add(self, numbers: Numbers) -> None:
        """Take in a rollout's numbers."""
        before = self.num_rollouts
        for name in dict.fromkeys([*self.measured, *numbers]):
            series = self.measured.setdefault(name, [None] * before)
            series.append(numbers.get(name))


@dataclass(frozen=True)
class Change:
    """Means before and now, what changed as a bound counts it, and since which rollout."""

    before: float
    now: float
    change: float
    began: int
    is_sure: bool
    of: str = ""


class Guards:
    """Watches a training. stop_when: sign -> bound or true. held_out: rewards of weight 0.

    Raises ValueError for a sign that is none.
    """

    def __init__(
        self, stop_when: Mapping[str, Any] | None = None, *, held_out: Sequence[str] = ()
    ) -> None:
        self._stopping = bounds_of(stop_when)
        self._held_out = tuple(held_out)
        self._bounds: dict[SignName, float] = {
            **{name: sign.default for name, sign in SIGNS.items() if sign.default is not None},
            **self._stopping,
        }

    @property
    def may_stop(self) -> bool:
        """Whether a sign stops training."""
        return bool(self._stopping)

    @property
    def may_look_back(self) -> bool:
        """Whether a sign that stops training may have begun long before it shows."""
        return "over_optimised" in self._stopping

    def look(
        self,
        state: GuardState,
        metrics: Mapping[str, float],
        texts: Mapping[SignName, float | None],
    ) -> tuple[dict[str, float], list[Shown]]:
        """Take in the next rollout; return its metrics, and the signs that show for the first time.

        metrics: of the rollout. texts: what `measure_texts` says of it.
        """
        number = state.num_rollouts
        state.add({**_numbers(metrics, self._held_out), **texts})
        found: dict[SignName, Change | None] = {
            name: self._change(name, state) for name in SIGN_NAMES
        }
        seen = {shown["sign"] for shown in state.shown}
        new = [
            self._shown(name, change, number)
            for name, change in found.items()
            if change is not None and name not in seen and self._is_beyond(name, change)
        ]
        state.shown += [asdict(shown) for shown in new]
        stopping = [shown for shown in new if shown.stops]
        if stopping and state.stopped_by is None:
            state.stopped_by = asdict(stopping[0])
        logged = _logged(state, found)
        for shown in new:
            logged |= shown.metrics()
        return logged | ({STOPPED: 1.0} if stopping else {}), new

    def _shown(self, name: SignName, found: Change, number: int) -> Shown:
        return Shown(
            name,
            rollout=number,
            began=found.began,
            before=found.before,
            now=found.now,
            change=found.change,
            bound=self._bounds[name],
            stops=name in self._stopping,
            of=found.of,
        )

    def _is_beyond(self, name: SignName, found: Change) -> bool:
        bound = self._bounds.get(name)
        if bound is None or not found.is_sure:
            return False
        comparison = SIGNS[name].compares
        if comparison == "factor":
            return found.change >= bound or found.change <= 1 / bound
        return found.change <= bound if comparison == "left" else found.change >= bound

    def _change(self, name: SignName, state: GuardState) -> Change | None:
        if name == "over_optimised":
            return self._parted(state)
        return _jump(state) if name == "score_jump" else _since_start(name, state)

    def _parted(self, state: GuardState) -> Change | None:
        """Return the largest fall of what is held out; sure where the proxy rose meanwhile."""
        falls = [fall for of in (GOLD, *self._held_out) if (fall := _fall(of, state)) is not None]
        return max(falls, key=lambda fall: (fall.is_sure, fall.change), default=None)


def measure_texts(
    rows: Sequence[ScoredRow], prompts: Sequence[Prompt], *, group_size: int
) -> dict[SignName, float | None]:
    """Return what is told by the responses themselves; None where it cannot be.

    prompts: of each row. Responses that were given are left out.
    """
    own = [(row, prompt) for row, prompt in zip(rows, prompts, strict=True) if not row.is_given]
    if not own:
        return {}
    shares = [share for row, _ in own if (share := repeated_share(_own_tokens(row))) is not None]
    groups: dict[int, list[str]] = {}
    for row, _ in own:
        groups.setdefault(row.number // group_size, []).append(row.response)
    return {
        "repetition": fmean(shares) if shares else None,
        "cut_off": sum(not row.has_eos for row, _ in own) / len(own),
        "equal_answers": shared_share(
            [row.response.strip() for row, _ in own], [_asked(prompt) for _, prompt in own]
        ),
        "distinct": distinct_share(list(groups.values())) if group_size > 1 else None,
    }


def _own_tokens(row: ScoredRow) -> list[int]:
    """Return the tokens that the policy wrote, without what tools answered."""
    if row.conversation is None:
        return row.completion_ids
    own = row.own.tolist()
    return [token for token, is_own in zip(row.completion_ids, own, strict=True) if is_own]


def _asked(prompt: Prompt) -> Any:
    """Return what two prompts have in common where one answer may be right for both."""
    reference = prompt.columns.get(REFERENCE)
    return reference if isinstance(reference, str) else tuple(prompt.ids)


def _numbers(metrics: Mapping[str, float], held_out: Sequence[str]) -> Numbers:
    """Return what is kept of a rollout's metrics."""
    score = "objective/scores_raw" if "objective/scores_raw" in metrics else "objective/scores"
    return {
        **{name: metrics.get(key) for name, key in _MEASURED.items()},
        _SCORE: metrics.get(score),
        _SPREAD: metrics.get(f"{score}_std"),
        f"{_HELD_OUT}{GOLD}": metrics.get("gold/mean"),
        **{f"{_HELD_OUT}{name}": metrics.get(f"rewards/{name}/mean") for name in held_out},
    }


def _since_start(name: SignName, state: GuardState) -> Change | None:
    """Compare the last rollouts with the first ones."""
    series = state.known(name)
    if len(series) < 2 * WINDOW:
        return None
    first, last = series[:WINDOW], series[-WINDOW:]
    before, now = fmean(first), fmean(last)
    comparison = SIGNS[name].compares
    began = state.num_rollouts - WINDOW
    if comparison == "value":
        return Change(before, now, now, began, is_sure=True)
    is_more = is_higher(last, first, level=_LEVEL)
    if comparison == "rise":
        return Change(before, now, now - before, began, is_sure=is_more)
    if before <= 0:
        return None
    is_sure = is_higher(first, last, level=_LEVEL) or (comparison == "factor" and is_more)
    return Change(before, now, now / before, began, is_sure=is_sure)


def _jump(state: GuardState) -> Change | None:
    """Compare the last scores with those just before, in spreads of the responses until then."""
    scores, spreads = state.known(_SCORE), state.known(_SPREAD)
    if len(scores) < WINDOW + _BEFORE or len(spreads) <= WINDOW:
        return None
    last, earlier = scores[-WINDOW:], scores[-WINDOW - _BEFORE : -WINDOW]
    spread = median(spreads[:-WINDOW])
    before, now = fmean(earlier), fmean(last)
    change = (now - before) / spread if spread > 0 else 0.0
    is_sure = is_higher(last, earlier, level=_LEVEL)
    return Change(before, now, change, state.num_rollouts - WINDOW, is_sure=is_sure)


def _fall(of: str, state: GuardState) -> Change | None:
    """Compare the last quarter of a held-out score with its best one so far."""
    told = [
        (number, score, held_out)
        for number, (score, held_out) in enumerate(
            zip(
                state.measured.get(_SCORE, ()),
                state.measured.get(f"{_HELD_OUT}{of}", ()),
                strict=True,
            )
        )
        if score is not None and held_out is not None
    ]
    parts = quarters([score for _, score, _ in told], [held_out for _, _, held_out in told])
    if not parts:
        return None
    peak, last = peak_of(parts), parts[-1]
    before, now = fmean(peak.golds), fmean(last.golds)
    is_sure = is_look(len(told)) and has_parted(parts, level=LEVEL_OF_A_LOOK)
    return Change(before, now, before - now, told[peak.end][0], is_sure=is_sure, of=of)


def _logged(state: GuardState, found: Mapping[SignName, Change | None]) -> dict[str, float]:
    """Return a rollout's metrics: each sign as it is now, as its bound counts it where it can be.

    Of length and entropy the ratio to the first rollouts.
    """
    logged: dict[str, float] = {}
    for name in SIGN_NAMES:
        change = found[name]
        if name in ("score_jump", "over_optimised"):
            if change is not None:
                logged[f"{PREFIX}{name}"] = change.change
            continue
        series = state.measured.get(name, ())
        if not series or series[-1] is None:
            continue
        value = series[-1]
        if name in ("length", "entropy"):
            start = fmean(state.known(name)[:WINDOW])
            value = value / start if start > 0 else 1.0
        logged[f"{PREFIX}{name}"] = value
    return logged
