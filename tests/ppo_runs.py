"""A finished run with a `ppo` stage on disk, every file that its report reads, nothing trained.

The curves are those of a policy that is over-optimised: the gold score is d (a - b log d) of the
root d of KL, the reward's own score d (a - c d), as Gao et al. 2022 measured (RL, figure 1).
"""

import json
import math
import random
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pipeline.store.fingerprint import fingerprint as fingerprint_of
from pipeline.store.manifest import write_sealed
from pipeline.store.store import Store
from tests.report_runs import Told, plain

TERMS = ("preference", "verified")
SOURCES = ("facts", "stories")
_START = 0.28


def write_ppo_run(
    runs: Path,
    *,
    told: Told = plain,
    rollouts: int = 120,
    nats: float = 12.0,
    fall: float = 0.17,
    leave_out: tuple[str, ...] = (),
    more: Mapping[int, Mapping[str, float]] | None = None,
) -> Path:
    """Write runs/rl/ and the store beside it; return the run's folder.

    nats: KL at the end. fall: how fast the gold score turns down with it. leave_out: files, and
    beginnings of metrics' names. more: metrics of some rollouts, by their numbers.
    """
    store, record = Store(runs), {}
    stages = (("tuned", "sft", "policy"), ("preference", "reward_model", "reward_model"))
    fingerprints: dict[str, str] = {}
    for stage, kind, produces in (*stages, ("aligned", "ppo", "policy")):
        identity = {"stage": kind, "seed": 7}
        fingerprint = fingerprints[stage] = fingerprint_of(identity)
        working = store.working(kind, fingerprint)
        working.out.mkdir(parents=True)
        (working.out / "log.txt").write_text("a log\n")
        if kind == "ppo":
            _write_ppo(working.out, told, rollouts, nats, fall, leave_out, more or {})
        artifact = store.publish(
            working,
            record={
                **{"name": told(stage), "kind": kind, "produces": produces},
                "fingerprint": fingerprint,
                "identity": identity,
                "inputs": {told(other): fingerprints[other] for other, *_ in stages}
                if kind == "ppo"
                else {},
                "properties": {},
                "metrics": {"steps": 4 * rollouts, "sources": [told("facts: 600 prompts")]},
                "provenance": {
                    **{"posttrain": "0.1.0", "seconds": 402.0, "because": "first time"},
                    **{"finished": "2026-01-02T03:04:05Z", "exact": True},
                    "execution": {"python": "3.11.7", "versions": {"torch": "2.13.0"}},
                },
            },
        )
        record[told(stage)] = {
            **{"kind": kind, "fingerprint": fingerprint, "status": "ran", "metrics": {}},
            **{"path": str(artifact.path.relative_to(runs)), "seconds": 402.0},
        }
    folder = runs / "rl"
    folder.mkdir()
    recipe = runs / "recipe.yaml"
    recipe.write_text("name: rl\n", encoding="utf-8")
    run = {"name": "rl", "recipe": str(recipe), "seed": 7, "stages": record}
    write_sealed(folder / "run.json", run)
    return folder


def gold_at(kl: float, fall: float) -> float:
    """Return the gold score of a trained policy at a KL."""
    distance = math.sqrt(max(kl, 0.0))
    return _START + distance * (0.26 - fall * math.log(distance)) if distance else _START


def score_at(kl: float) -> float:
    """Return the reward's own score of a trained policy at a KL."""
    distance = math.sqrt(max(kl, 0.0))
    return -0.4 + distance * (1.1 - 0.09 * distance)


def _write_ppo(
    out: Path,
    told: Told,
    rollouts: int,
    nats: float,
    fall: float,
    leave_out: tuple[str, ...],
    more: Mapping[int, Mapping[str, float]],
) -> None:
    drawn = random.Random("ppo")
    lines = [
        _metrics(told, number, rollouts, nats, fall, drawn) | more.get(number, {})
        for number in range(rollouts)
    ]
    files = {
        "metrics.jsonl": _lines(
            {k: v for k, v in line.items() if not k.startswith(leave_out)} if leave_out else line
            for line in lines
        ),
        "samples.jsonl": _lines(_samples(told, rollouts, nats, fall, drawn)),
        "best_of_n.json": json.dumps(_best_of_n(told, nats, fall)),
    }
    for name, text in files.items():
        if name not in leave_out:
            (out / name).write_text(text, encoding="utf-8")


def _lines(lines: Any) -> str:
    return "".join(json.dumps(line) + "\n" for line in lines)


def _kl(number: int, rollouts: int, nats: float) -> float:
    return nats * (number / max(1, rollouts - 1)) ** 1.3


def _metrics(
    told: Told, number: int, rollouts: int, nats: float, fall: float, drawn: random.Random
) -> dict[str, Any]:
    done, kl = number / rollouts, _kl(number, rollouts, nats)
    score, gold = score_at(kl) + drawn.gauss(0, 0.08), gold_at(kl, fall) + drawn.gauss(0, 0.04)
    return {
        **{"step": 4 * number + 4, "episode": 64 * (number + 1), "rollout/tokens": 2000.0},
        **{"objective/kl": kl * math.exp(drawn.gauss(0, 0.08)), "objective/kl_coef": 0.05},
        **{"objective/entropy": 1.9 * math.exp(-done) + drawn.gauss(0, 0.02)},
        **{"objective/scores": score, "objective/rlhf_reward": score - 0.05 * kl},
        **{"policy/clipfrac_low": 0.04 + 0.02 * done, "policy/clipfrac_high": 0.06},
        **{"policy/grad_norm": 0.7, "loss/policy": -0.01, "loss/value": 0.2 / (1 + done)},
        **{"value/explained_var": 0.8 - math.exp(-6 * done), "lr": 3e-6 * (1 - done)},
        **{"eos_rate": min(1.0, 0.9 + 0.1 * done), "completions/length_mean": 31 + 18 * done},
        **{f"rewards/{told(TERMS[0])}/mean": score * 0.8, f"rewards/{told(TERMS[0])}/std": 0.5},
        **{f"rewards/{told(TERMS[1])}/mean": score * 0.1 + 0.2},
        **{"gold/mean": gold, f"gold/{told(SOURCES[0])}": gold + 0.08},
        **{f"gold/{told(SOURCES[1])}": gold - 0.1},
    }


def _samples(
    told: Told, rollouts: int, nats: float, fall: float, drawn: random.Random
) -> list[dict[str, Any]]:
    questions = ("Where do otters sleep?", "What do bees make?", "Tell me of a small boat.")
    answers = (
        "They sleep in rivers and in the sea, holding hands.",
        "That is a great question! Certainly, I am happy to help you with it. They make honey.",
        "Once upon a time there was a small boat. It was very, very, very happy. The end.",
    )
    return [
        {
            **{"rollout": number, "episode": 64 * number},
            **{"prompt": told(f"{question} ({place})"), "completion": told(drawn.choice(answers))},
            **{"ended": drawn.random() < 0.9, "kl": _kl(number, rollouts, nats)},
            "scores": {told(term): score_at(_kl(number, rollouts, nats)) for term in TERMS},
            "score": score_at(_kl(number, rollouts, nats)) + drawn.gauss(0, 0.4),
            "gold": float(drawn.random() < gold_at(_kl(number, rollouts, nats), fall)),
            "source": told(SOURCES[place % 2]),
        }
        for number in sorted({*range(0, rollouts, max(1, rollouts // 8)), rollouts - 1})
        for place, question in enumerate(questions * 5)
    ]


def _best_of_n(told: Told, nats: float, fall: float) -> dict[str, Any]:
    rows = []
    for n in (1, 2, 4, 8, 16):
        kl = math.log(n) - (n - 1) / n
        gold = _START + math.sqrt(kl) * (0.24 - 0.03 * math.sqrt(kl))
        score = -0.4 + 1.05 * math.sqrt(kl)
        rows.append(
            {
                **{"n": n, "kl": kl, "gold": gold, "gold_low": gold - 0.05},
                **{"gold_high": gold + 0.05, "score": score},
                "scores": {told(TERMS[0]): 0.8 * score, told(TERMS[1]): 0.1 * score + 0.2},
            }
        )
    gold = gold_at(nats, fall)
    ends = {"gold_low": gold - 0.05, "gold_high": gold + 0.05}
    policy = {"kl": nats, "gold": gold, **ends, "score": score_at(nats)}
    return {"prompts": 256, "rows": rows, "policy": policy}
