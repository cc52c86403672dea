"""Logs of inspect_ai: `.eval` archives and `.json` files, one task a file.

An archive holds a summary of every sample, which has its scores; what the model wrote stands in
files of their own there, which are not read. Newer archives are compressed by zstd, which Python's
zipfile reads from 3.14 on; until then pyarrow does.
"""

import json
import struct
import zipfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

from eval.logs.log import Log, LogError, content_id, number, with_unique_items
from eval.results import ItemResult

PROGRAM = "inspect_ai"
_ZSTD = 93  # the ZIP format's number for it
_HEADER, _START, _SUMMARIES, _JOURNAL = (
    "header.json",
    "_journal/start.json",
    "summaries.json",
    "_journal/summaries/",
)
# As inspect's own accuracy counts them: correct, incorrect, partial, no answer.
_GRADES = {"C": 1.0, "I": 0.0, "P": 0.5, "N": 0.0}
_WORDS = {"yes": 1.0, "true": 1.0, "no": 0.0, "false": 0.0}
_SHOWN = 2000  # characters of an input or answer that are kept
_HASHED = 500  # characters of an input by which it is known: archives cut long ones


@dataclass(frozen=True)
class _Task:
    """What one file says. status: `success`, or what became of the run."""

    path: Path
    name: str
    model: str
    created: str
    status: str
    samples: list[Mapping[str, Any]]


def log_files(folder: Path) -> list[Path]:
    """Return the logs in a folder; JSON files that are none are left out."""
    archives = sorted(folder.glob("*.eval"))
    return archives + [path for path in sorted(folder.glob("*.json")) if _looks_like_one(path)]


def is_log(value: Any) -> bool:
    """Return whether a JSON file's content is a log."""
    return isinstance(value, dict) and "eval" in value and "status" in value


def read(files: Sequence[Path]) -> Log:
    """Read the newest log of each task; LogError for what is no log of one model."""
    tasks = sorted((_task(path) for path in files), key=lambda each: each.created)
    models = list(dict.fromkeys(task.model for task in tasks))
    if len(models) > 1:
        said = ", ".join(f"{task.path.name} ({task.model})" for task in tasks)
        raise LogError(f"{files[0].parent}: holds logs of {len(models)} models; name one: {said}")
    newest = {task.name: task for task in tasks}
    notes: list[str] = []
    older = sorted({task.name for task in tasks if newest[task.name] is not task})
    if older:
        said = ", ".join(older)
        notes.append(f"Of several logs in `{files[0].parent.name}` the last is read: {said}.")
    results: list[ItemResult] = []
    unread: dict[str, None] = {}
    for task in newest.values():
        if task.status != "success":
            notes.append(f"`{task.path.name}` ended with {task.status}: it may lack samples.")
        results += _results(task, unread)
    if unread:
        notes.append(f"No number, so not compared: {', '.join(unread)}.")
    if not results:
        raise LogError(f"{files[0]}: no sample has a score that is a number")
    return Log(PROGRAM, models[0], with_unique_items(results), notes)


def _task(path: Path) -> _Task:
    try:
        header, samples = _archive(path) if path.suffix == ".eval" else _plain(path)
        spec: Mapping[str, Any] = header["eval"]
        name, model = str(spec["task"]), str(spec["model"])
        created, status = str(spec.get("created", "")), str(header.get("status", "started"))
    except (zipfile.BadZipFile, ValueError, LookupError, TypeError, struct.error) as error:
        raise LogError(f"{path}: is no readable log of {PROGRAM} ({error})") from error
    return _Task(path, name, model, created, status, samples)


def _plain(path: Path) -> tuple[Mapping[str, Any], list[Mapping[str, Any]]]:
    content = json.loads(path.read_text(encoding="utf-8"))
    if not is_log(content):
        raise ValueError("it has no `eval` and `status`")
    return content, [each for each in content.get("samples") or () if isinstance(each, dict)]


def _archive(path: Path) -> tuple[Mapping[str, Any], list[Mapping[str, Any]]]:
    with zipfile.ZipFile(path) as archive:
        names = archive.namelist()
        header = _member(archive, _HEADER if _HEADER in names else _START)
        parts = [_SUMMARIES] if _SUMMARIES in names else []
        if not parts:  # a run that was killed has only its journal
            numbered = (name for name in names if name.startswith(_JOURNAL))
            parts = sorted(numbered, key=lambda name: (len(name), name))
        samples = [each for part in parts for each in _member(archive, part)]
    return header, [each for each in samples if isinstance(each, dict)]


def _member(archive: zipfile.ZipFile, name: str) -> Any:
    """Return the JSON of a member of an archive, whichever way it is compressed."""
    info = archive.getinfo(name)
    try:
        content = archive.read(info)
    except NotImplementedError:
        if info.compress_type != _ZSTD:
            raise ValueError(f"{name} is compressed in a way that is not known") from None
        content = _zstd(archive, info)
    return json.loads(content)


def _zstd(archive: zipfile.ZipFile, info: zipfile.ZipInfo) -> bytes:
    import pyarrow  # pyright: ignore[reportMissingTypeStubs]

    stream = cast("Any", archive.fp)
    stream.seek(info.header_offset)
    name_length, extra_length = struct.unpack("<HH", stream.read(30)[26:30])
    stream.seek(name_length + extra_length, 1)
    packed: bytes = stream.read(info.compress_size)
    try:
        return pyarrow.Codec("zstd").decompress(packed, info.file_size, asbytes=True)  # pyright: ignore
    except (OSError, pyarrow.ArrowException) as error:
        raise ValueError(f"{info.filename} cannot be unpacked: {error}") from error


def _looks_like_one(path: Path) -> bool:
    """Return whether a JSON file begins as a log does: its whole may take seconds to read."""
    with path.open("rb") as file:
        begun = file.read(4000)
    return b'"eval"' in begun and b'"status"' in begun


def _results(task: _Task, unread: dict[str, None]) -> Iterator[ItemResult]:
    scorers = dict.fromkeys(name for each in task.samples for name in each.get("scores") or {})
    for sample in sorted(task.samples, key=lambda each: str(each.get("id"))):
        asked = _text(sample.get("input"))
        common: dict[str, Any] = {
            "task": task.name,
            "item": content_id(asked[:_HASHED]),
            "style": "zero-shot",
            "form": "chat",
            "prompt": asked[:_SHOWN],
            "gold": _text(sample.get("target"))[:_SHOWN],
            "sample": int(sample.get("epoch") or 1) - 1,
        }
        scores: Mapping[str, Any] = sample.get("scores") or {}
        for name in scorers:
            if name not in scores:
                why = _text(sample.get("error"))[:200] or "the log has no score"
                yield ItemResult(metric=name, reason=why, **common)
                continue
            found = scores[name] if isinstance(scores[name], dict) else {"value": scores[name]}
            answer = found.get("answer")
            said = _text(found.get("explanation")) or _text(answer)
            for metric, value in _values(name, found.get("value")):
                score = _number(value)
                if score is None and value is not None and not isinstance(value, float):
                    unread[f"{task.name} {metric}"] = None
                    continue
                yield ItemResult(
                    metric=metric,
                    score=score,
                    answer=None if answer is None else _text(answer)[:_SHOWN],
                    response=said[:_SHOWN],
                    **common,
                )


def _values(scorer: str, value: Any) -> Iterator[tuple[str, Any]]:
    """Yield what a scorer measured by name; several of one scorer are called `scorer/name`."""
    if isinstance(value, dict):
        for name, each in cast("dict[str, Any]", value).items():
            yield f"{scorer}/{name}", each
    else:
        yield scorer, value


def _number(value: Any) -> float | None:
    if isinstance(value, str):
        if value in _GRADES:
            return _GRADES[value]
        if value.lower() in _WORDS:
            return _WORDS[value.lower()]
        try:
            value = float(value)
        except ValueError:
            return None
    return number(value)


def _text(value: Any) -> str:
    """Return what was asked or answered as text: messages one below the other."""
    if value is None:
        return ""
    if isinstance(value, str):
        return value
    if isinstance(value, list):
        return "\n".join(_text(each) for each in cast("list[Any]", value))
    if isinstance(value, dict):
        fields = cast("dict[str, Any]", value)
        for name in ("content", "text", "message"):
            if name in fields:
                return _text(fields[name])
        return json.dumps(fields, sort_keys=True)
    return str(value)
