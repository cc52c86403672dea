"""What the models of a made-up run were asked and answered: its comparison's items.jsonl."""

import random
from collections.abc import Callable
from typing import Any

Told = Callable[[str], str]
MODELS = ("base", "tuned", "ppo")
TASKS = ("arithmetic", "recall")
WAYS = (("zero-shot", 0), ("few-shot", 1), ("few-shot", 4), ("chain-of-thought", 0))
ITEMS = 90


def score_of(task: str, model: str, style: str, shots: int) -> float:
    """Return a score as such models have them: base needs demonstrations, ppo forgets to recall."""
    ability = {"base": 0.05, "tuned": 0.52, "ppo": 0.68}[model]
    if task == "recall":
        ability = {"base": 0.85, "tuned": 0.8, "ppo": 0.62}[model]
    helped = 0.07 * shots if model == "base" else 0.01 * shots
    return min(0.97, ability + helped + (0.08 if style == "chain-of-thought" else 0.0))


def items_of(told: Told) -> list[dict[str, Any]]:
    drawn = random.Random("items")
    return [
        _item(
            told,
            task,
            number,
            model,
            style,
            shots,
            is_right=drawn.random() < score_of(task, model, style, shots),
        )
        for model in MODELS
        for task in TASKS
        for style, shots in WAYS
        for number in range(ITEMS)
    ]


def _item(
    told: Told, task: str, number: int, model: str, style: str, shots: int, *, is_right: bool
) -> dict[str, Any]:
    a, b = number % 10, number // 10
    gold = str(a + b) if task == "arithmetic" else f"word{number}"
    said = gold if is_right else f"not {gold}"
    shown = "".join(f"{k} + {k} = {k + k}\n" for k in range(shots))
    prompt = (
        f"{shown}What is {a} + {b}?"
        if task == "arithmetic"
        else f"{shown}Which word was number {number}?"
    )
    return {
        **{"model": told(model), "task": told(task), "item": told(f"{task}/{number}")},
        **{"metric": "verified_accuracy", "style": style, "shots": shots, "sample": 0},
        "form": "document" if model == "base" else "chat",
        **{"prompt": told(prompt), "gold": told(gold)},
        **{
            "response": told(f" We add them up, step by step, and get {said}."),
            "answer": told(said),
        },
        **{
            "score": float(is_right),
            "reason": told("as expected" if is_right else "another answer"),
        },
        **{"num_tokens": 12, "weight": 1.0, "gold_score": None},
        "group": told("addition" if task == "arithmetic" else str(number)),
    }
