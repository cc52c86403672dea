"""Logs of lm-evaluation-harness: `samples_TASK_TIME.jsonl` beside `results_TIME.json`.

Written by `lm_eval --log_samples --output_path DIR`. Each line is a document under one filter, with
the value of each metric; what all documents were asked with stands in the results.
"""

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

from eval.logs.log import Log, LogError, content_id, number, with_unique_items
from eval.results import BITS_PER_BYTE, ItemResult, Style

PROGRAM = "lm-evaluation-harness"
_SAMPLES = re.compile(r"samples_(?P<task>.+)_(?P<time>[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9.-]+)\.jsonl")
_DEPTHS = ("", "*/", "*/*/")
_NO_FILTER = "none"
_RENAMED = "samples"  # the task of a file whose name does not say it
_SETTINGS = {"the version": "versions", "the number of demonstrations": "n-shot"}
_NO_METRICS = frozenset(
    (
        *("doc_id", "doc", "target", "arguments", "resps", "filtered_resps", "filter", "metrics"),
        *("doc_hash", "prompt_hash", "target_hash"),
    )
)


@dataclass(frozen=True)
class _Run:
    """A file of samples, and what its results say. time: of the run, as in the files' names."""

    path: Path
    task: str
    time: str
    said: Mapping[str, Any]

    def of_task(self, key: str) -> Any:
        """Return what the results say of this task under a key; None for nothing."""
        found = self.said.get(key)
        return cast("dict[str, Any]", found).get(self.task) if isinstance(found, dict) else None


def sample_files(folder: Path) -> list[Path]:
    """Return the files of samples in a folder, or in those below it where a model has its own."""
    return sorted(path for depth in _DEPTHS for path in folder.glob(f"{depth}samples_*.jsonl"))


def result_files(folder: Path) -> list[Path]:
    """Return the files of results in a folder, or in those below it."""
    return sorted(path for depth in _DEPTHS for path in folder.glob(f"{depth}results_*.json"))


def read(files: Sequence[Path]) -> Log:
    """Read the newest samples of each task; LogError for what is no log of one model."""
    folders = list(dict.fromkeys(path.parent for path in files))
    if len(folders) > 1:
        named = ", ".join(str(each) for each in folders)
        raise LogError(
            f"{folders[0].parent}: holds logs of {len(folders)} models; name one: {named}"
        )
    runs = [_run(path) for path in files]
    newest: dict[str, _Run] = {}
    for run in sorted(runs, key=lambda each: each.time):
        newest[run.task] = run
    notes: list[str] = []
    older = sorted({run.task for run in runs if newest[run.task] is not run})
    if older:
        notes.append(
            f"Of several runs in `{folders[0].name}` the last is read: {', '.join(older)}."
        )
    results: list[ItemResult] = []
    unread: dict[str, None] = {}
    for run in newest.values():
        results += _results(run, unread)
    if unread:
        notes.append(f"No value an item, so not compared: {', '.join(unread)} ({folders[0].name}).")
    if not results:
        raise LogError(f"{folders[0]}: no sample has a metric with a number")
    if any(not run.said for run in newest.values()):
        lacking = "there is no results_TIME.json beside the samples"
        notes.append(f"`{folders[0].name}`: how it was asked is not known, {lacking}.")
    known = next((run.said for run in newest.values() if run.said), {})
    own_name = files[0].stem if len(files) == 1 and _RENAMED in newest else folders[0].name
    model = str(known.get("model_name") or own_name)
    settings = {
        f"{what} of `{run.task}`": str(run.of_task(key))
        for run in newest.values()
        for what, key in _SETTINGS.items()
        if run.of_task(key) is not None
    }
    return Log(PROGRAM, model, with_unique_items(results), notes, settings)


def _run(path: Path) -> _Run:
    match = _SAMPLES.fullmatch(path.name)
    if match is None:
        return _Run(path, _RENAMED, "", {})
    beside = [path.with_name(f"results_{match['time']}.json")]
    beside += sorted(path.parent.glob(f"*_{match['time']}.json"))  # `--output_path results.json`
    said: Any = {}
    for each in beside:
        if each.is_file():
            said = _json(each.read_text(encoding="utf-8"), str(each))
            break
    return _Run(path, match["task"], match["time"], said if isinstance(said, dict) else {})


def _results(run: _Run, unread: dict[str, None]) -> Iterator[ItemResult]:
    group = _group_of(run)
    shots = run.of_task("n-shot") or 0
    shots = shots if isinstance(shots, int) else 0
    higher = run.of_task("higher_is_better") or {}
    is_chat = bool(run.said.get("chat_template"))
    with run.path.open(encoding="utf-8") as lines:
        for line_number, line in enumerate(lines, 1):
            if not line.strip():
                continue
            where = f"{run.path}:{line_number}"
            sample = _json(line, where)
            if not isinstance(sample, dict) or "doc_id" not in sample:
                raise LogError(f"{where}: is no sample of {PROGRAM}: it has no `doc_id`")
            asked: dict[str, Any] | None = None
            for metric, value in _metrics(sample):
                score, weight = _score(metric, value)
                name = _named(metric, str(sample.get("filter", _NO_FILTER)))
                if score is None and not isinstance(value, float):
                    unread[f"{run.task} {name}"] = None
                    continue
                is_read = metric == BITS_PER_BYTE
                style: Style = "none" if is_read else "few-shot" if shots else "zero-shot"
                asked = asked or _asked(sample)
                yield ItemResult(
                    task=group or run.task,
                    item=_item(run.task if group else "", sample),
                    metric=name,
                    style=style,
                    form="chat" if is_chat else "document",
                    gold=str(sample.get("target", "")),
                    score=score,
                    reason="" if score is not None else "the log has no number",
                    weight=weight,
                    group=run.task if group else "",
                    shots=0 if is_read else shots,
                    lower_is_better=higher.get(metric) is False,
                    **asked,
                )


def _group_of(run: _Run) -> str:
    """Return the outermost group that a task is of; empty for none."""
    groups = run.said.get("group_subtasks")
    if not isinstance(groups, dict):
        return ""
    parents = {
        str(child): str(group)
        for group, children in cast("dict[str, Any]", groups).items()
        if isinstance(children, list)
        for child in cast("list[Any]", children)
    }
    found, seen = run.task, {run.task}
    while found in parents and parents[found] not in seen:
        found = parents[found]
        seen.add(found)
    return "" if found == run.task else found


def _metrics(sample: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
    """Yield a sample's metrics with their values; older versions do not list their names."""
    listed = sample.get("metrics")
    names = cast("list[str]", listed) if isinstance(listed, list) else list(sample)
    for name in names:
        if name in sample and name not in _NO_METRICS:
            yield name.partition(",")[0], sample[name]


def _score(metric: str, value: Any) -> tuple[float | None, float]:
    """Return a document's score and weight; None for what only all documents together have."""
    if metric == BITS_PER_BYTE and isinstance(value, list):
        logprob, num_bytes = (number(each) for each in [*cast("list[Any]", value), None, None][:2])
        if logprob is not None and num_bytes:
            return -logprob / 0.6931471805599453 / num_bytes, num_bytes
    return number(value), 1.0


def _named(metric: str, of_filter: str) -> str:
    return metric if of_filter == _NO_FILTER else f"{metric},{of_filter}"


def _item(task: str, sample: Mapping[str, Any]) -> str:
    """Return what a document is known by: the hash of what it says, its number in old logs."""
    known = sample.get("doc_hash")
    if isinstance(known, str) and known:
        place = known[:12]
    elif sample.get("doc") is not None:
        place = content_id(json.dumps(sample["doc"], sort_keys=True, ensure_ascii=False))
    else:
        place = str(sample["doc_id"])
    return f"{task} {place}" if task else place


def _asked(sample: Mapping[str, Any]) -> dict[str, Any]:
    """Return prompt, response and answer: what was written, or of choices the likeliest."""
    requests = _requests(sample.get("arguments"))
    found = {"prompt": requests[0][0] if requests else "", "response": "", "answer": None}
    filtered = sample.get("filtered_resps")
    outer = sample.get("resps")
    first = outer[0] if isinstance(outer, list) and outer else None  # pyright: ignore[reportUnknownVariableType]
    written = first[0] if isinstance(first, list) and first else first  # pyright: ignore[reportUnknownVariableType]
    if isinstance(filtered, list) and len(cast("list[Any]", filtered)) > 1:
        logprobs = [_logprob(each) for each in cast("list[Any]", filtered)]
        known = [each for each in logprobs if each is not None]
        if len(known) == len(logprobs) and len(requests) == len(logprobs):
            chosen = requests[max(range(len(known)), key=known.__getitem__)][1]
            return {**found, "response": chosen, "answer": chosen.strip()}
    if isinstance(written, str):
        answer = cast("list[Any]", filtered)[0] if isinstance(filtered, list) and filtered else None
        return {**found, "response": written, "answer": None if answer is None else str(answer)}
    return found


def _requests(arguments: Any) -> list[tuple[str, str]]:
    """Return what was put to the model, pairs of a context and what was to follow it."""
    if isinstance(arguments, dict):  # {gen_args_0: {arg_0: ..., arg_1: ...}}
        arguments = [
            list(cast("dict[str, Any]", each).values()) if isinstance(each, dict) else each
            for each in cast("dict[str, Any]", arguments).values()
        ]
    if not isinstance(arguments, list):
        return []
    found: list[tuple[str, str]] = []
    for each in cast("list[Any]", arguments):
        parts = cast("list[Any]", each) if isinstance(each, list) else [each]
        found.append((str(parts[0]) if parts else "", str(parts[1]) if len(parts) > 1 else ""))
    return found


def _logprob(response: Any) -> float | None:
    """Return the log-probability in `[-1.5, False]`, of which newer logs make texts."""
    first = cast("list[Any]", response)[0] if isinstance(response, list) and response else None
    try:
        return None if first is None else float(first)
    except (TypeError, ValueError):
        return None


def _json(text: str, where: str) -> Any:
    try:
        return json.loads(text)
    except (ValueError, RecursionError) as error:
        raise LogError(f"{where}: broken JSON: {error}") from error
