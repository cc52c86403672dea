"""From reward terms to one score per response: weights, normalisation, clip, the end's rule.

In this order, over a whole rollout (Ziegler et al. 2019, section 2; Huang et al. 2024, "The N+
Implementation Details of RLHF with PPO"). Computes no term itself (terms.py) and no KL.
"""

from __future__ import annotations

import inspect
import logging
import math
import time
from concurrent.futures import FIRST_COMPLETED, wait
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import torch

from pipeline.errors import PosttrainError
from pipeline.rewards import event_loop
from pipeline.rewards.responses import SOURCE, source_in
from pipeline.rewards.running_moments import RunningMoments
from pipeline.rewards.user_function import as_finite

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence
    from concurrent.futures import Future

    from torch import Tensor
    from transformers import TrainerState

    from pipeline.rewards.responses import Logged, Responses
    from pipeline.rewards.terms import RewardTerm

Normalisation = Literal["none", "running", "fixed"]
EosPenalty = Literal["subtract", "replace"]

_LOG = logging.getLogger(__name__)
_LARGEST = 1e18  # its square, of which moments and losses are made, is within fp32
_LONG_S = 60.0  # after which waiting is told of
_FEW = 0.01  # share of responses without a reward that is not worth a warning


@dataclass(frozen=True)
class Combined:
    """A rollout's scores, after everything: (B,) fp64 on the CPU.

    NaN where no term scored the response: it is not trained on.
    """

    scores: Tensor
    metrics: dict[str, float]


class RewardComposition:
    """Reward terms and the way from what they say to one score per response.

    normalise: subtract a mean and divide by a standard deviation: `running`, of all weighted sums
        so far, this rollout's included; `fixed`, of the first rollout's (Ziegler et al. 2019).
    clip: (low, high) of the score after that.
    missing_eos_penalty: what a response without an end loses (`subtract`), or its negative is the
        whole score of such a response (`replace`); None for no such rule.

    Raises ValueError for settings that cannot be meant.
    """

    def __init__(
        self,
        terms: Sequence[RewardTerm],
        *,
        normalise: Normalisation = "none",
        clip: tuple[float, float] | None = None,
        missing_eos_penalty: float | None = None,
        eos_penalty_mode: EosPenalty = "subtract",
        may_be_empty: bool = False,
    ) -> None:
        if not terms and not may_be_empty:
            raise ValueError("a reward is made of one term at least")
        _check_terms(terms)
        if clip is not None and not clip[0] < clip[1]:
            raise ValueError(f"reward clip {list(clip)} is no range from low to high")
        if missing_eos_penalty is not None and not 0 <= missing_eos_penalty < math.inf:
            raise ValueError(f"missing_eos_penalty {missing_eos_penalty} is not a number from 0 up")
        self.terms = tuple(terms)
        self.normalise = normalise
        self.clip = clip
        self.missing_eos_penalty = missing_eos_penalty
        self.eos_penalty_mode = eos_penalty_mode
        self._moments = RunningMoments()
        self._warned: set[str] = set()

    @property
    def names(self) -> tuple[str, ...]:
        """The terms' names, in the order of `raw`'s columns."""
        return tuple(term.name for term in self.terms)

    @property
    def moments(self) -> tuple[float, float]:
        """Return (mean, std) that the last scores were normalised with; (0, 1) if they were not.

        A critic that begins as a reward model (weight w, bias b) and is to predict normalised
        scores begins with w / std and (b - mean) / std.
        """
        mean, std = self._moments.mean, self._moments.std
        # Equal scores have a deviation of some 1e-16 of their mean, by rounding.
        return mean, std if std > 1e-12 * abs(mean) else 1.0

    def raw(self, responses: Responses, state: TrainerState | None = None) -> Tensor:
        """Return what each term gives each response, (b, K) fp64, NaN where it does not apply.

        For one process's own responses; what functions log is put into `responses.logged`. Raises
        PosttrainError, which names term and row, for what is not a finite number.
        """
        rows_of = [_rows(term, responses) for term in self.terms]
        parts = [responses.part(rows) for rows in rows_of]
        returned = self._ask(parts, state)
        by_term: list[list[float]] = []
        for number, (term, rows, part) in enumerate(zip(self.terms, rows_of, parts, strict=True)):
            values = [math.nan] * len(responses)
            if rows:
                numbers = _numbers(term.name, returned[number], part)
                for row, value in zip(rows, numbers, strict=True):
                    values[row] = value
                _take_logged(responses, term.name, part.logged, rows)
            by_term.append(values)
        return torch.tensor(by_term, dtype=torch.float64).T

    def _ask(self, parts: Sequence[Responses], state: TrainerState | None) -> dict[int, Any]:
        """Return what each term says of its part, by the term's number; nothing for an empty part.

        Terms that are awaited begin first and go on together while the others have their turn.
        The first error ends all.
        """
        returned: dict[int, Any] = {}
        pending: dict[int, Future[Any]] = {}
        numbers = [number for number, part in enumerate(parts) if len(part)]
        try:
            for number in sorted(numbers, key=lambda number: not self.terms[number].is_async):
                result = self.terms[number].score(parts[number], state)
                if inspect.isawaitable(result):
                    pending[number] = event_loop.start(result)
                else:
                    returned[number] = result
            self._wait(pending)
        finally:
            for future in pending.values():
                future.cancel()
        return returned | {number: future.result()[0] for number, future in pending.items()}

    def _wait(self, pending: Mapping[int, Future[Any]]) -> None:
        """Wait for terms that are awaited, and say so if it takes long. Raises the first error."""
        began_s = time.monotonic()
        names = {future: self.terms[number].name for number, future in pending.items()}
        while names:
            done, _ = wait(names, timeout=_LONG_S, return_when=FIRST_COMPLETED)
            for future in done:
                names.pop(future)
                if future.result()[1] is not None:
                    raise future.result()[1]
            if not done:
                awaited = ", ".join(f"`{name}`" for name in names.values())
                waited_s = time.monotonic() - began_s
                _LOG.warning("reward %s: awaited for %.0f s already", awaited, waited_s)

    def weigh(self, raw: Tensor) -> Tensor:
        """Return the weighted sum of the terms that apply, (B,) fp64; NaN where none does.

        Raises PosttrainError for a sum that is too large to be trained with in fp32.

        The score of responses outside of rollouts: nothing is normalised, clipped or remembered. A
        term of weight 0 is only shown: what it alone gives a number is not scored.
        """
        raw = raw.to("cpu", torch.float64)
        weights = torch.tensor([term.weight for term in self.terms], dtype=torch.float64)
        counts = weights != 0 if bool(weights.any()) else torch.ones_like(weights, dtype=torch.bool)
        total = torch.where(raw.isnan(), 0.0, raw * weights).sum(-1)  # (B,)
        if not bool((total.abs() < _LARGEST).all()):
            row = int((~(total.abs() < _LARGEST)).nonzero()[0, 0])
            names = ", ".join(f"`{term.name}`" for term in self.terms)
            message = f"the weighted sum of {names} is {total[row]:.3g} for response {row}"
            hint = f"numbers beyond {_LARGEST:.0e} cannot be trained with; scale them"
            raise PosttrainError("reward", message, hint)
        return torch.where(raw[:, counts].isnan().all(-1), torch.nan, total)

    def combine(
        self,
        raw: Tensor,
        has_eos: Tensor,
        logged: Iterable[Logged] = (),
        *,
        sources: Sequence[str | None] | None = None,
    ) -> Combined:
        """Make scores of a whole rollout, (B, K) raw and (B,) has_eos of all processes.

        Once per rollout: it updates the moments. A term that gives None does not count for that
        response; where none is left the response has no score (NaN), moments and means leave it
        out, and the end's rule does not touch it. logged: of every process, for the metrics.
        sources: each response's, by which terms know theirs. Raises PosttrainError for a rollout
        that no term applies to: there is nothing to train on.
        """
        raw, has_eos = raw.to("cpu", torch.float64), has_eos.to("cpu", torch.bool)
        total = self.weigh(raw)
        is_scored = ~total.isnan()
        if not bool(is_scored.any()):
            names = ", ".join(f"`{term.name}`" for term in self.terms)
            message = f"no response of this rollout got a reward from any term ({names})"
            raise PosttrainError("reward", message, "do they all return None?")
        if self.normalise == "running" or (self.normalise == "fixed" and not self._moments.count):
            self._moments.update(total)
        mean, std = self.moments
        normal = (total - mean) / std  # NaN, where nothing is scored, survives all that follows
        before = normal if self.clip is None else normal.clamp(*self.clip)
        after = before
        if self.missing_eos_penalty is not None:
            is_replaced = self.eos_penalty_mode == "replace"
            kept = torch.zeros_like(before) if is_replaced else before
            is_penalised = is_scored & ~has_eos
            after = torch.where(is_penalised, kept - self.missing_eos_penalty, before)
        of_terms = self._term_metrics(raw, sources)
        self._warn_of_none(of_terms)
        metrics = {
            **of_terms,
            "objective/scores": float(before[is_scored].mean()),
            "objective/scores_std": float(before[is_scored].std(correction=0)),
            "rewards/clipped": float((before != normal)[is_scored].double().mean()),
            "rewards/missing_eos": float((~has_eos).double().mean()),
            "rewards/unscored": float((~is_scored).sum()),
            **_logged_metrics(logged),
        }
        if self.normalise != "none":  # the normalised mean hardly moves
            metrics["objective/scores_raw"] = float(total.nanmean())
            metrics["objective/scores_raw_std"] = float(total[is_scored].std(correction=0))
        return Combined(after, metrics)

    def state_dict(self) -> dict[str, Any]:
        """Return what a resumed run needs, as JSON."""
        return {"moments": self._moments.state_dict()}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Take up where `state_dict` was written."""
        self._moments.load_state_dict(state["moments"])

    def _term_metrics(self, raw: Tensor, sources: Sequence[str | None] | None) -> dict[str, float]:
        """Return what each term gave; `n` numbers, and `none` where it was asked and gave None."""
        metrics: dict[str, float] = {}
        for term, column in zip(self.terms, raw.unbind(-1), strict=True):
            values = column[~column.isnan()]
            num_responses = len(column)
            if term.on is not None and sources is not None:
                num_responses = sum(source in term.on for source in sources)
            metrics[f"rewards/{term.name}/n"] = float(len(values))
            metrics[f"rewards/{term.name}/none"] = float(num_responses - len(values))
            if len(values):
                metrics[f"rewards/{term.name}/mean"] = float(values.mean())
                metrics[f"rewards/{term.name}/std"] = float(values.std(correction=0))
        return metrics

    def term_metrics(
        self, raw: Tensor, logged: Iterable[Logged], sources: Sequence[str | None]
    ) -> dict[str, float]:
        """Return what the terms gave and logged of responses outside of rollouts, (B, K) raw."""
        raw = raw.to("cpu", torch.float64)
        return {**self._term_metrics(raw, sources), **_logged_metrics(logged)}

    def _warn_of_none(self, metrics: Mapping[str, float]) -> None:
        """Warn, once per term, where more than 1% of the responses it was asked for got None."""
        for term in self.terms:
            number, none = (metrics[f"rewards/{term.name}/{what}"] for what in ("n", "none"))
            if none > _FEW * (number + none) and term.name not in self._warned:
                self._warned.add(term.name)
                _LOG.warning(
                    "reward `%s` gave None for %d of %d responses of this rollout: it does not "
                    "count for them, and those that no reward scores are not trained on; "
                    "the metric rewards/%s/none has each rollout's number",
                    *(term.name, none, number + none, term.name),
                )


def _check_terms(terms: Sequence[RewardTerm]) -> None:
    names = [term.name for term in terms]
    for term in terms:
        if not term.name or names.count(term.name) > 1:
            raise ValueError(f"two rewards are named `{term.name}`, or have no name; name each")
        if not math.isfinite(term.weight):
            raise ValueError(f"reward `{term.name}`: the weight {term.weight} is not a number")


def _rows(term: RewardTerm, responses: Responses) -> list[int]:
    """Return which responses a term is for."""
    if term.on is None:
        return list(range(len(responses)))
    sources = source_in(responses.columns)
    if sources is None:
        message = f"is for some sources only, but the prompts have no column `{SOURCE}`"
        raise PosttrainError(f"reward `{term.name}`", message)
    return [row for row, source in enumerate(sources) if source in term.on]


def _numbers(name: str, returned: Any, responses: Responses) -> list[float]:
    """Return what a term gave as one float a response, NaN for None; refuse anything else."""
    where = f"reward `{name}`"
    try:
        if isinstance(returned, torch.Tensor | np.ndarray):
            returned = returned.tolist()
        elif isinstance(returned, list | tuple):
            returned = list(returned)  # once: a class of the user's may be another one every time
    except (RuntimeError, TypeError) as error:
        raise PosttrainError(where, f"returned a list that cannot be read: {error}") from error
    if not isinstance(returned, list | tuple):
        message = f"returned one {type(returned).__name__} for {len(responses)} responses"
        raise PosttrainError(where, message, "return a list with one number a response")
    if len(returned) != len(responses):
        message = f"returned {len(returned)} numbers for {len(responses)} responses"
        raise PosttrainError(where, message, "one each, None where it does not apply")
    return [_number(where, value, responses, row) for row, value in enumerate(returned)]


def _number(where: str, value: Any, responses: Responses, row: int) -> float:
    if value is None:
        return math.nan
    try:
        return as_finite(value)
    except ValueError as error:
        message = f"returned {error} for {responses.shown(row)}"
        hint = "return a number, None where it does not apply"
        raise PosttrainError(where, message, hint) from error


def _take_logged(responses: Responses, name: str, logged: Logged, rows: Sequence[int]) -> None:
    """Put what a term logged of some responses beside what others logged of all."""
    for metric, numbers in logged.metrics.items():
        responses.logged.metrics.setdefault(f"{name}/{metric}", []).extend(numbers)
    for column, values in logged.columns.items():
        all_rows: list[Any] = [None] * len(responses)
        for row, value in zip(rows, values, strict=True):
            all_rows[row] = value
        responses.logged.columns[f"{name}/{column}"] = all_rows


def _logged_metrics(logged: Iterable[Logged]) -> dict[str, float]:
    """Return the mean of every number that was logged, over all processes."""
    numbers: dict[str, list[float]] = {}
    for part in logged:
        for metric, values in part.metrics.items():
            numbers.setdefault(f"rewards/{metric}", []).extend(values)
    return {metric: sum(values) / len(values) for metric, values in numbers.items()}
