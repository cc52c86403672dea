"""A finished run on disk with every file that a report reads, without training anything.

`told` gets every text that others write (names, prompts, answers, reasons, flaws, notes) and may
put anything around it.
"""

import json
import math
import random
from pathlib import Path
from typing import Any

from eval.comparison.comparison import Comparison
from eval.comparison.pool import PooledComparison
from pipeline.report.comparison import StageComparison, stage_comparison
from pipeline.store.fingerprint import fingerprint as fingerprint_of
from pipeline.store.manifest import describe_files, read_sealed, write_json, write_sealed
from pipeline.store.store import Store
from tests.report_items import ITEMS, MODELS, TASKS, WAYS, Told, items_of, score_of

STAGES = (  # name, kind, what it makes, built on, seconds
    ("tokenizer", "tokenizer", "tokenizer", (), 6.4),
    ("base", "pretrain", "policy", ("tokenizer",), 201.6),
    ("tuned", "sft", "policy", ("base",), 309.4),
    ("preference", "reward_model", "reward_model", ("tuned",), 53.3),
    ("ppo", "made_elsewhere", "policy", ("tuned", "preference"), 4211.0),
    ("compare", "compare", "comparison", ("base", "tuned", "ppo"), 61.0),
)
_UNKNOWN = (
    *("score", "low", "high", "delta", "delta_low", "delta_high", "against", "against_shots", "p"),
    *("p_adjusted", "gained", "lost", "detectable", "tokens"),
)
BLANK_ROW = {**dict.fromkeys(_UNKNOWN), "samples": 1, "ungraded": 0}


def plain(text: str) -> str:
    """Return a text as it is."""
    return text


def write_run(runs: Path, *, told: Told = plain, name: str = "example") -> Path:
    """Write runs/<name>/ and the store beside it; return the run's folder."""
    store = Store(runs)
    recipe = runs / "recipe.yaml"
    runs.mkdir(parents=True, exist_ok=True)
    text = told("name: example\nstages: {}  # as it was\n")
    recipe.write_text(text, encoding="utf-8", errors="replace")
    record: dict[str, Any] = {}
    fingerprints: dict[str, str] = {}
    for place, (stage, kind, produces, inputs, seconds) in enumerate(STAGES):
        identity = {"stage": kind, "seed": place}
        fingerprint = fingerprint_of(identity)
        fingerprints[stage] = fingerprint
        working = store.working(kind, fingerprint)
        working.out.mkdir(parents=True)
        _write_files(working.out, kind, told)
        artifact = store.publish(
            working,
            record={
                "name": told(stage),
                "kind": kind,
                "produces": produces,
                "fingerprint": fingerprint,
                "identity": identity,
                "inputs": {told(other): fingerprints[other] for other in inputs},
                "properties": {},
                "metrics": _metrics(kind, told),
                "provenance": {
                    "posttrain": "0.1.0",
                    "execution": {"python": "3.11.7", "versions": {"torch": told("2.13.0")}},
                    "seconds": seconds,
                    "finished": "2026-01-02T03:04:05Z",
                    "because": told("first time"),
                    "exact": True,
                },
            },
        )
        record[told(stage)] = {
            "kind": kind,
            "fingerprint": fingerprint,
            "path": str(artifact.path.relative_to(runs)),
            "status": "cached" if stage == "tokenizer" else "ran",
            "seconds": seconds,
            "metrics": {},
        }
    folder = runs / name
    folder.mkdir()
    write_sealed(
        folder / "run.json",
        {"name": told("example"), "recipe": str(recipe), "seed": 7, "stages": record},
    )
    return folder


def _metrics(kind: str, told: Told) -> dict[str, Any]:
    if kind == "tokenizer":
        return {"vocab_size": 1024}
    if kind == "made_elsewhere":
        return {"kl": 3.0, "kl_low": 2.2, "kl_high": 4.0, "steps": 300}
    return {"steps": 300, "parameters": 910_464, "sources": [told("arithmetic: 600 rows")]}


def _write_files(out: Path, kind: str, told: Told) -> None:
    if kind == "pretrain":
        _write_lines(out / "metrics.jsonl", _curve(("loss", "eval_loss")))
    elif kind == "sft":
        _write_lines(out / "metrics.jsonl", _curve(("loss", "mean_token_accuracy")))
    elif kind == "reward_model":
        _write_lines(out / "metrics.jsonl", _curve(("loss", "accuracy", "margin")))
        write_json(out / "held_out.json", _held_out(told))
    elif kind == "made_elsewhere":
        keys = ("reward", "gold_score", "kl", "entropy", "length", "explained_variance")
        _write_lines(out / "metrics.jsonl", _curve((*keys, "clip_fraction", "grad_norm")))
        change = {key: told(f"{key} <{key}>") for key in ("prompt", "before", "after")}
        _write_lines(out / "samples.jsonl", [change])
        write_json(out / "held_out.json", _held_out(told))
    elif kind == "compare":
        write_json(out / "comparison.json", _comparison(told))
        _write_lines(out / "items.jsonl", items_of(told))
    (out / "log.txt").write_text(told("a log\n"), encoding="utf-8", errors="replace")


def _write_lines(path: Path, lines: list[dict[str, Any]]) -> None:
    path.write_text("".join(json.dumps(line) + "\n" for line in lines), encoding="utf-8")


def _curve(keys: tuple[str, ...]) -> list[dict[str, Any]]:
    random_of = random.Random("curve")
    return [
        {"step": step}
        | {
            key: math.exp(-step / 80) + place + random_of.gauss(0, 0.03)
            for place, key in enumerate(keys)
        }
        for step in range(10, 310, 10)
    ]


def _held_out(told: Told) -> dict[str, Any]:
    bins = [(0.55, 0.6, 40), (0.7, 0.66, 30), (0.95, 0.97, 60)]
    return {
        "n": 130,
        "accuracy": 0.79,
        "low": 0.71,
        "high": 0.85,
        "calibration_error": 0.03,
        "calibration": [{"confidence": c, "accuracy": a, "n": n} for c, a, n in bins],
        "by_flaw": {
            told("forgets the carry"): {"n": 30, "accuracy": 0.9, "low": 0.74, "high": 0.97},
            told("no steps"): {"n": 40, "accuracy": 0.45, "low": 0.3, "high": 0.6},
        },
    }


def _interval(score: float) -> dict[str, float]:
    half = 1.96 * math.sqrt(score * (1 - score) / ITEMS)
    return {"score": score, "low": max(0.0, score - half), "high": min(1.0, score + half)}


def _comparison(told: Told) -> dict[str, Any]:
    columns = [{"style": s, "shots": None if s == "chain-of-thought" else n} for s, n in WAYS]
    return {
        "baseline": told("base"),
        "models": [told(model) for model in MODELS],
        "rows": _rows(told),
        "styles": {"columns": columns, "rows": _styles(told)},
        "groups": _groups(told),
        "flips": _flips(told),
        "calibration": _calibration(told),
        "divergence": [
            {
                **{"task": told("arithmetic"), "model": told("ppo"), "trained_from": told("tuned")},
                **{"style": "zero-shot", "shots": 0, "n": 90},
                **{"kl": 1.9, "low": 1.2, "high": 2.6, "tokens": 30.2},
            }
        ],
        "written": [],
        "notes": [told("24 differences are tested.")],
        "gate": _gate(told),
    }


def comparison_of(content: dict[str, Any]) -> Comparison:
    """Return eval's comparison of what a test says of one; what it does not say is empty."""
    names = ("groups", "flips", "calibration", "divergence", "written", "notes")
    tables: dict[str, Any] = {name: [] for name in names}
    whole = {**tables, "models": [], "styles": {"columns": [], "rows": []}, "gate": None, **content}
    rows = [BLANK_ROW | row for row in whole["rows"]]
    return Comparison.from_json(whole | {"rows": rows})


def publish_again(folder: Path) -> None:
    """Bring a result's manifest in line with its files."""
    record = read_sealed(folder / "artifact.json")
    record["files"] = describe_files(folder, manifest="artifact.json")
    write_sealed(folder / "artifact.json", record)


def shown(content: dict[str, Any], stage: str = "compare") -> StageComparison:
    """Return a comparison as the report and the terminal read it."""
    return stage_comparison(comparison_of(content), stage)


def pooled_of(content: dict[str, Any]) -> PooledComparison:
    """Return eval's pooled comparison of what a test says of one."""
    blank = {"samples": 1, "ungraded": [0, 0], "against": [None] * 2, "against_shots": [None] * 2}
    ends = {"seed_low": None, "seed_high": None}
    rows = [
        blank | row | {"score": ends | row["score"], "delta": row["delta"] and ends | row["delta"]}
        for row in content["rows"]
    ]
    whole = {"models": [], "comparisons": [], "gate": None, **content, "rows": rows}
    return PooledComparison.from_json(whole)


def _rows(told: Told) -> list[dict[str, Any]]:
    rows = []
    for task in TASKS:
        best = max(score_of(task, "base", *way) for way in WAYS)
        for model in MODELS:
            for style, shots in WAYS:
                score = score_of(task, model, style, shots)
                row = _row(told, task, "verified_accuracy", model, style, shots) | _interval(score)
                if model != "base":
                    delta = score - best
                    row |= {"delta": delta, "delta_low": delta - 0.09, "delta_high": delta + 0.09}
                    row |= {"against": "few-shot", "against_shots": 4}
                    row |= {"p": 0.001, "p_adjusted": 0.002, "gained": 30, "lost": 4}
                rows.append(row)
    for place, model in enumerate(MODELS):
        row = _row(told, "arithmetic", "choice_accuracy", model, "zero-shot", 0)
        row |= _interval(0.4 + place / 10)
        if place:
            row |= {"delta": 0.1, "delta_low": -0.02, "delta_high": 0.22, "against_shots": 0}
            row |= {"against": "zero-shot", "p": 0.1, "p_adjusted": 0.2, "gained": 9, "lost": 5}
        rows.append(row)
    for model in MODELS[1:]:
        row = _row(told, "recall", "win_rate", model, "zero-shot", 0) | _interval(0.61)
        rows.append(row | {"against": "zero-shot", "against_shots": 0})
    for model, bits in zip(MODELS, (1.21, 1.33, 1.36), strict=True):
        row = _row(told, "stories.txt", "bits_per_byte", model, "none", 0)
        row |= {"lower_is_better": True, "score": bits, "low": bits - 0.02, "high": bits + 0.02}
        row |= {"tokens": None, "detectable": 0.01, "form": "document"}
        if model != "base":
            row |= {"delta": bits - 1.21, "delta_low": bits - 1.23, "delta_high": bits - 1.19}
            row |= {"against": "none", "against_shots": 0}
        rows.append(row)
    return rows


def _row(told: Told, task: str, metric: str, model: str, style: str, shots: int) -> dict[str, Any]:
    unknown = ("score", "low", "high", "delta", "delta_low", "delta_high", "against")
    unknown += ("against_shots", "p", "p_adjusted", "gained", "lost")
    return {
        **dict.fromkeys(unknown),
        **{"task": told(task), "metric": metric, "model": told(model)},
        **{"style": style, "shots": shots, "form": "document" if model == "base" else "chat"},
        **{"lower_is_better": False, "samples": 1, "n": ITEMS, "ungraded": 2},
        **{"detectable": 0.11, "tokens": {"base": 4.0, "tuned": 31.4, "ppo": 44.0}[model]},
    }


def _styles(told: Told) -> list[dict[str, Any]]:
    rows = []
    for task in TASKS:
        for model in MODELS:
            first = score_of(task, model, *WAYS[0])
            cells = []
            for style, shots in WAYS:
                score = score_of(task, model, style, shots)
                gain = None if shots == 0 and style == "zero-shot" else score - first
                ends = {"gain_low": None, "gain_high": None}
                if gain is not None:
                    ends = {"gain_low": gain - 0.08, "gain_high": gain + 0.08}
                cells.append({"shots": shots, "n": ITEMS, **_interval(score), "gain": gain, **ends})
            form = "document" if model == "base" else "chat"
            subject = {"task": told(task), "metric": "verified_accuracy", "model": told(model)}
            rows.append({**subject, "form": form, "cells": cells})
    return rows


def _groups(told: Told) -> list[dict[str, Any]]:
    rows = []
    for model in MODELS:
        for style, shots in WAYS:
            common = {"metric": "verified_accuracy", "model": told(model), "style": style}
            common |= {"shots": shots, "n": 30}
            for distance in (5, 10, 20, 40, 80):
                score = max(0.05, score_of("recall", model, style, shots) - distance / 150)
                group = {"task": told("recall"), "group": str(distance)}
                rows.append({**group, **common, **_interval(score)})
            for name, harder in (("addition", 0.0), ("subtraction", 0.04)):
                score = max(0.01, score_of("arithmetic", model, style, shots) - harder)
                group = {"task": told("arithmetic"), "group": told(name)}
                rows.append({**group, **common, **_interval(score)})
    return rows


def _flips(told: Told) -> list[dict[str, Any]]:
    return [
        {
            **{"task": told(task), "metric": "verified_accuracy", "model": told(model)},
            **{"style": "zero-shot", "shots": 0, "gained": 30, "lost": 4},
            **{"gained_examples": [], "lost_examples": []},
        }
        for task in TASKS
        for model in MODELS[1:]
    ]


def _calibration(told: Told) -> list[dict[str, Any]]:
    return [
        {
            **{"task": told("arithmetic"), "model": told(model), "style": "zero-shot", "shots": 0},
            **{"n": ITEMS, "error": 0.08, "confidence": 0.71, "accuracy": 0.66},
            "bins": [
                {"low": c - 0.05, "high": c + 0.05, "n": 12, "confidence": c, "accuracy": a}
                for c, a in ((0.3, 0.25 + place / 20), (0.55, 0.4), (0.85, 0.8 - place / 10))
            ],
        }
        for place, model in enumerate(MODELS)
    ]


def _gate(told: Told) -> dict[str, Any]:
    def condition(value: float, reason: str) -> dict[str, Any]:
        common = {"metric": "verified_accuracy", "style": "zero-shot", "shots": 0}
        bound = {"key": told("recall"), "bound": "delta_low", "limit": -0.1, "value": value}
        return {**bound, **common, "holds": value > -0.1, "reason": told(reason)}

    lower = "recall verified_accuracy, zero-shot: the difference's lower end"
    passed, failed = condition(-0.04, f"{lower} -0.040"), condition(-0.32, f"{lower} -0.320")
    return {
        "ships": False,
        "verdicts": [
            {"model": told("tuned"), "ships": True, "conditions": [passed]},
            {"model": told("ppo"), "ships": False, "conditions": [passed, failed]},
        ],
    }
