"""How tools were used, of models that had none beside those that had some.

A comparison pairs the same metrics of all models; of a model without tools nothing is known.
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace

from eval.results import REWARD, TOOL_METRICS, VERIFIED, WRITTEN, ItemResult

_WRITTEN = (VERIFIED, REWARD, WRITTEN)


def fill_tool_results(
    results: Mapping[str, Sequence[ItemResult]],
) -> dict[str, Sequence[ItemResult]]:
    """Return the results with ungraded ones of the use of tools where a model has none."""
    items_by_subject: dict[tuple[str, str], dict[str, ItemResult]] = {}
    for items in results.values():
        for item in items:
            if item.metric in TOOL_METRICS:
                known = items_by_subject.setdefault((item.task, item.metric), {})
                known.setdefault(item.item, item)
    if not items_by_subject:
        return dict(results)
    return {model: _filled(items, items_by_subject) for model, items in results.items()}


def _filled(
    items: Sequence[ItemResult],
    items_by_subject: Mapping[tuple[str, str], Mapping[str, ItemResult]],
) -> Sequence[ItemResult]:
    there = {(item.task, item.metric) for item in items}
    added: list[ItemResult] = []
    for (task, metric), wanted in items_by_subject.items():
        if (task, metric) in there:
            continue
        # A prompt that rewards judge is a task of its own for each of them.
        written = [item for item in items if item.metric in _WRITTEN and item.task.startswith(task)]
        ways = {(item.style, item.shots, item.form, item.sample) for item in written}
        for style, shots, form, sample in sorted(ways):
            way = {"style": style, "shots": shots, "form": form, "sample": sample}
            added += [
                replace(one, **way, score=None, reason="the model had no tools")
                for one in wanted.values()
            ]
    return [*items, *added]
