"""Which program wrote what a path names, if any that is known: a file, or a folder of them."""

import json
from pathlib import Path

from eval.logs import alpaca_eval, inspect_ai, lm_eval
from eval.logs.log import Log, LogError

_MODEL_FILES = ("config.json", "adapter_config.json")
_HEAD = 4000  # bytes of a JSON file by which it is told


def find_log(path: Path) -> Log | None:
    """Read the log that a path names; None where it is none. LogError where it cannot be read."""
    try:
        if path.is_dir():
            return None if any((path / name).is_file() for name in _MODEL_FILES) else _folder(path)
        return _file(path) if path.is_file() else None
    except UnicodeDecodeError as error:
        raise LogError(f"{path}: is not UTF-8 text ({error.reason})") from error
    except OSError as error:
        raise LogError(f"{path}: cannot be read ({error.strerror})") from error


def _folder(path: Path) -> Log | None:
    samples = lm_eval.sample_files(path)
    if samples:
        return lm_eval.read(samples)
    logs = inspect_ai.log_files(path)
    if logs:
        return inspect_ai.read(logs)
    annotations = sorted(
        file for depth in ("", "*/") for file in path.glob(depth + alpaca_eval.FILE)
    )
    if len(annotations) > 1:
        named = ", ".join(str(file) for file in annotations)
        raise LogError(f"{path}: holds {len(annotations)} files of annotations; name one: {named}")
    if annotations:
        return alpaca_eval.read(annotations[0])
    results = lm_eval.result_files(path)
    if results:
        raise LogError(
            f"{results[0]}: says nothing of single items; run lm_eval with `--log_samples`"
        )
    return None


def _file(path: Path) -> Log | None:
    if path.suffix == ".eval":
        return inspect_ai.read([path])
    if path.suffix == ".jsonl":
        return lm_eval.read([path]) if _begins(path, b'"doc_id"') else None
    if path.suffix != ".json":
        return None
    if _begins(path, b'"instruction"') and _begins(path, b"["):
        return alpaca_eval.read(path)
    if _begins(path, b'"eval"') and _begins(path, b'"status"'):
        return inspect_ai.read([path])
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (ValueError, RecursionError) as error:
        raise LogError(f"{path}: broken JSON: {error}") from error
    if isinstance(content, dict) and "results" in content and "versions" in content:
        time = path.stem.rpartition("_")[2]
        samples = sorted(path.parent.glob(f"samples_*_{time}.jsonl"))
        if not samples:
            raise LogError(
                f"{path}: says nothing of single items; run lm_eval with `--log_samples`"
            )
        return lm_eval.read(samples)
    if alpaca_eval.is_log(content):
        return alpaca_eval.read(path)
    return inspect_ai.read([path]) if inspect_ai.is_log(content) else None


def _begins(path: Path, words: bytes) -> bool:
    with path.open("rb") as file:
        return words in file.read(_HEAD)
