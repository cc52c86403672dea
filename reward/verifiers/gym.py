"""The score that a dataset of reasoning-gym gives an answer: its own grader, confined.

Scores are the library's, parts of right included. Where it cannot grade, the score is None.
"""

import base64
import json
import math
import pickle
import re
import sys
from collections.abc import Mapping
from typing import Any

from reward.sandbox import run_grader
from reward.verdict import Verdict

MAX_ANSWER = 20_000  # characters
_TAGGED = re.compile(r"<answer>((?:(?!<answer>).)*?)</answer>", re.DOTALL)
_THOUGHT_END = "</think>"
# What an answer does to a grader, where it is the answer that is too much.
_TOO_MUCH = ("MemoryError", "RecursionError", "OverflowError")


def make_setup(name: str, settings: Mapping[str, Any]) -> str:
    """Return what a zygote needs to grade answers with this dataset."""
    pickled = base64.b64encode(pickle.dumps(dict(settings))).decode()
    return json.dumps(
        {"paths": [path for path in sys.path if path], "name": name, "settings": pickled}
    )


def gym_score(response: str, entry: Mapping[str, Any], setup: str) -> Verdict:
    """Have the dataset grade what a response says in its last `<answer>` and `</answer>`.

    Without such tags all of it counts, behind a `</think>` if there is one. entry: the question as
    the dataset made it. Raises SandboxUnavailable where answers cannot be graded confined.
    """
    answer = stated_answer(response)
    if len(answer) > MAX_ANSWER:
        return Verdict(0.0, None, f"the answer has more than {MAX_ANSWER:,} characters")
    outcome = run_grader(setup, base64.b64encode(pickle.dumps(dict(entry))).decode(), answer)
    if outcome.status in ("timeout", "died") or outcome.reason.startswith(_TOO_MUCH):
        return Verdict(0.0, answer, f"it cannot be graded within bounds: {outcome.reason}")
    if outcome.status != "finished":
        return Verdict(None, answer, f"the grader failed: {outcome.reason}")
    score = outcome.answers[0].value
    if not isinstance(score, float) or not math.isfinite(score):
        return Verdict(None, answer, f"the grader gave {score!r}")
    return Verdict(
        score, answer, f"expected `{str(entry['answer'])[:80]}`" if score < 1 else "right"
    )


def stated_answer(response: str) -> str:
    """Return the answer that a response states."""
    tagged = _TAGGED.findall(response)
    return (tagged[-1] if tagged else response.rpartition(_THOUGHT_END)[2]).strip()
