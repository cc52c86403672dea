"""A log: what another program says that a model made of each item.

Knows no program's files (see the modules beside this one): what is common to all of them, how an
item is known whatever order a run had it in, and what a score is.
"""

import hashlib
import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from eval.results import ItemResult


class LogError(ValueError):
    """A log cannot be read, or says nothing of single items; the message begins with its place."""


@dataclass(frozen=True)
class Log:
    """One model's results.

    program: that wrote them, as people call it. model: as the log calls it. notes: what is to be
    said of them. settings: how items were asked, by what of it; two logs that differ in one can be
    compared, and it is said. terms: those without which scores mean nothing to each other.
    """

    program: str
    model: str
    results: list[ItemResult]
    notes: list[str] = field(default_factory=list[str])
    settings: dict[str, str] = field(default_factory=dict[str, str])
    terms: dict[str, str] = field(default_factory=dict[str, str])


def content_id(text: str) -> str:
    """Return what an item is known by: a hash of what it says; runs may count in other orders."""
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()[:12]


def number(value: Any) -> float | None:
    """Return a score as a number; None for what is no number, or none that is finite."""
    if isinstance(value, bool | int | float) and math.isfinite(value):
        return float(value)
    return None


def with_unique_items(results: Iterable[ItemResult]) -> list[ItemResult]:
    """Return results in which equal items of a task have names of their own: `x`, `x#2`."""
    seen: dict[tuple[str, str, int, str], int] = {}
    found: list[ItemResult] = []
    for result in results:
        key = (result.task, result.metric, result.sample, result.item)
        count = seen[key] = seen.get(key, 0) + 1
        found.append(result if count == 1 else replace(result, item=f"{result.item}#{count}"))
    return found


def align_logs(
    logs: Sequence[Log], names: Sequence[str], tasks: Sequence[str] = ()
) -> tuple[dict[str, list[ItemResult]], list[str]]:
    """Return each log's results on what all of them were asked, by name, and what was left out.

    tasks: only these; without them all. Raises LogError where nothing is shared.
    """
    for what, said in _differences([log.terms for log in logs], names):
        raise LogError(f"{what} is not the same ({said}): the scores cannot be compared")
    of_log = [_by_subject(log.results) for log in logs]
    subjects = [each for each in of_log[0] if all(each in other for other in of_log[1:])]
    there = list(dict.fromkeys(task for found in of_log for task, _ in found))
    for task in tasks:
        if task not in there:
            raise LogError(f"no log has a task `{task}`; there are {', '.join(there)}")
    subjects = [each for each in subjects if not tasks or each[0] in tasks]
    if not subjects:
        pairs = zip(names, of_log, strict=True)
        said = "; ".join(f"`{name}` has {_listed(found)}" for name, found in pairs)
        raise LogError(f"the logs share no task and metric: {said}")
    notes = list(_only_in_some(of_log, names, subjects, tasks))
    for what, said in _differences([log.settings for log in logs], names):
        notes.append(f"{what[:1].upper()}{what[1:]} is not the same: {said}.")
    results: dict[str, list[ItemResult]] = {name: [] for name in names}
    for subject in subjects:
        items = [{each.item for each in found[subject]} for found in of_log]
        kept = set.intersection(*items)
        if not kept:
            raise LogError(f"the logs share no item of `{subject[0]}`: were they asked the same?")
        for name, found, own in zip(names, of_log, items, strict=True):
            results[name] += [each for each in found[subject] if each.item in kept]
            if len(own) > len(kept):
                left = f"{len(own) - len(kept)} of {len(own)} items of `{subject[0]}` are only in"
                notes.append(f"{left} `{name}` ({subject[1]}): left out.")
    return results, list(dict.fromkeys(notes))


def _differences(
    settings: Sequence[dict[str, str]], names: Sequence[str]
) -> Iterable[tuple[str, str]]:
    """Yield what is not equal in all logs that say it, and what each says."""
    for what in dict.fromkeys(each for own in settings for each in own):
        said = {name: own[what] for name, own in zip(names, settings, strict=True) if what in own}
        if len(set(said.values())) > 1:
            yield what, ", ".join(f"`{name}`: {value}" for name, value in said.items())


def _by_subject(results: Sequence[ItemResult]) -> dict[tuple[str, str], list[ItemResult]]:
    found: dict[tuple[str, str], list[ItemResult]] = {}
    for result in results:
        found.setdefault((result.task, result.metric), []).append(result)
    return found


def _only_in_some(
    of_log: Sequence[dict[tuple[str, str], list[ItemResult]]],
    names: Sequence[str],
    subjects: Sequence[tuple[str, str]],
    tasks: Sequence[str],
) -> Iterable[str]:
    for name, found in zip(names, of_log, strict=True):
        others = {s: r for s, r in found.items() if s not in subjects and s[0] in (tasks or {s[0]})}
        if others:
            yield f"Only in `{name}`, so not compared: {_listed(others)}."


def _listed(subjects: Iterable[tuple[str, str]]) -> str:
    said = [f"{task} ({metric})" for task, metric in subjects]
    return ", ".join(said[:6]) + (f" and {len(said) - 6} more" if len(said) > 6 else "")
