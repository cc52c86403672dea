"""Logs as lm-evaluation-harness, inspect_ai and AlpacaEval write them, for tests."""

from __future__ import annotations

import hashlib
import json
import struct
import zipfile
import zlib
from typing import TYPE_CHECKING, Any

import pyarrow

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

TIME = "2026-05-04T10-11-12.131415"


def harness_sample(number: int, scores: Mapping[str, Any], **more: Any) -> dict[str, Any]:
    """A line of samples_TASK_TIME.jsonl, of a question with two choices."""
    doc = {"question": f"Question {number}?", "choices": ["yes", "no"]}
    context = f"Question: Question {number}?\nAnswer:"
    return {
        "doc_id": number,
        "doc": doc,
        "target": "0",
        "arguments": {
            f"gen_args_{i}": {"arg_0": context, "arg_1": f" {choice}"}
            for i, choice in enumerate(doc["choices"])
        },
        "resps": [[["-1.5", "False"]], [["-0.5", "True"]]],
        "filtered_resps": [["-1.5", "False"], ["-0.5", "True"]],
        "filter": "none",
        "metrics": list(scores),
        "doc_hash": hashlib.sha256(json.dumps(doc).encode()).hexdigest(),
        "prompt_hash": hashlib.sha256(context.encode()).hexdigest(),
        "target_hash": hashlib.sha256(b"0").hexdigest(),
        **scores,
        **more,
    }


def harness_log(
    folder: Path,
    samples_by_task: Mapping[str, Sequence[Mapping[str, Any]]],
    *,
    model: str = "some/model",
    time: str = TIME,
    **results: Any,
) -> Path:
    """The folder of `lm_eval --log_samples --output_path FOLDER`."""
    inner = folder / model.replace("/", "__")
    inner.mkdir(parents=True, exist_ok=True)
    for task, samples in samples_by_task.items():
        lines = "".join(json.dumps(sample) + "\n" for sample in samples)
        (inner / f"samples_{task}_{time}.jsonl").write_text(lines)
    said = {
        "results": {},
        "versions": dict.fromkeys(samples_by_task, 1.0),
        "n-shot": dict.fromkeys(samples_by_task, 0),
        "higher_is_better": {},
        "group_subtasks": {},
        "model_name": model,
        "chat_template": None,
        **results,
    }
    (inner / f"results_{time}.json").write_text(json.dumps(said, indent=2))
    return folder


def inspect_sample(number: Any, scores: Mapping[str, Any], **more: Any) -> dict[str, Any]:
    """A sample, or the summary of one, in a log of inspect_ai."""
    return {
        "id": number,
        "epoch": 1,
        "input": f"Question {number}: yes or no?",
        "target": "yes",
        "scores": {
            name: {"value": value, "answer": "yes", "explanation": "I say yes.", "history": []}
            for name, value in scores.items()
        },
        "metadata": {},
        **more,
    }


def inspect_header(task: str = "yesno", model: str = "mockllm/a", **more: Any) -> dict[str, Any]:
    """What a log of inspect_ai says of its run."""
    spec = {"task": task, "model": model, "created": "2026-05-04T10:11:12+00:00", "dataset": {}}
    return {"version": 2, "status": "success", "eval": spec, **more}


def inspect_json(path: Path, samples: Sequence[Mapping[str, Any]], **header: Any) -> Path:
    """A log of inspect_ai in JSON."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps({**inspect_header(**header), "samples": samples}))
    return path


def inspect_archive(
    path: Path,
    samples: Sequence[Mapping[str, Any]],
    *,
    with_zstd: bool = True,
    was_killed: bool = False,
    **header: Any,
) -> Path:
    """A log of inspect_ai as an archive; one of a run that was killed has a journal only."""
    said = inspect_header(**header)
    members: dict[str, Any] = {"_journal/start.json": {"version": 2, "eval": said["eval"]}}
    half = len(samples) // 2
    members["_journal/summaries/1.json"] = samples[:half]
    members["_journal/summaries/2.json"] = samples[half:]
    if not was_killed:
        members |= {"summaries.json": samples, "header.json": said}
    path.parent.mkdir(parents=True, exist_ok=True)
    contents = {name: json.dumps(value).encode() for name, value in members.items()}
    if with_zstd:
        path.write_bytes(_zipped(contents))
        return path
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in contents.items():
            archive.writestr(name, content)
    return path


def annotations(
    path: Path, preferences: Sequence[float | None], *, model: str, **more: Any
) -> Path:
    """AlpacaEval's annotations.json of one model."""
    rows = [
        {
            "instruction": f"Instruction {number}",
            "output_1": "The reference's words.",
            "generator_1": "reference",
            "dataset": "helpful_base" if number % 2 else "vicuna",
            "output_2": f"What {model} says.",
            "generator_2": model,
            "annotator": "weighted_alpaca_eval_gpt4_turbo",
            "preference": preference,
            **more,
        }
        for number, preference in enumerate(preferences)
    ]
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(rows))
    return path


def _zipped(contents: Mapping[str, bytes]) -> bytes:
    """A ZIP archive of members compressed by zstd (method 93), which zipfile cannot write yet."""
    body, directory = b"", b""
    for name, content in contents.items():
        packed = pyarrow.Codec("zstd").compress(content, asbytes=True)
        sizes = (zlib.crc32(content), len(packed), len(content), len(name.encode()))
        entry = struct.pack("<HHHHHLLLHH", 63, 0, 93, 0, 33, *sizes, 0)
        directory += b"PK\x01\x02" + struct.pack("<H", 63) + entry
        directory += struct.pack("<HHHLL", 0, 0, 0, 0, len(body)) + name.encode()
        body += b"PK\x03\x04" + entry + name.encode() + packed
    end = struct.pack("<HHHHLLH", 0, 0, len(contents), len(contents), len(directory), len(body), 0)
    return body + directory + b"PK\x05\x06" + end
