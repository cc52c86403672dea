"""Inside a box: grades an answer with the dataset of reasoning-gym that its question is from.

Many of its datasets evaluate answers as Python (`eval`, SymPy's `parse_expr`): a model that writes
`__import__` writes a program. So answers are graded in boxes, and evaluated without names of
Python, attributes or texts besides. The dataset is made in the zygote, where it may read files.
"""

import ast
import base64
import importlib
import json
import pickle
import random
import re
import sys
from typing import Any

from reward.boxes import values
from reward.boxes.channel import Answering
from reward.boxes.program import limited, raised

# The modules that evaluate an answer that should be a list.
_LISTS = (
    "algorithmic.binary_matrix",
    "algorithmic.spiral_matrix",
    "algorithmic.string_insertion",
    "games.n_queens",
)
_EXPRESSION = re.compile(r"[\w\s+\-*/^(),.=!\[\]|<>]*")
_ATTRIBUTE = re.compile(r"[^\W\d]\s*\.|[)\]]\s*\.|\.\s*[^\W\d]")
_dataset: Any = None


def prepare(setup: dict[str, Any]) -> None:
    """Make the dataset in the zygote, before it forgets where packages lie.

    setup: `paths` of packages, the `name` of a dataset and its `settings`, pickled and in base64.
    """
    global _dataset  # noqa: PLW0603 - boxes inherit it
    sys.path.extend(setup["paths"])
    gym = importlib.import_module("reasoning_gym")
    settings = pickle.loads(base64.b64decode(setup["settings"]))
    _dataset = gym.create_dataset(setup["name"], **settings)
    _evaluate_nothing_else()
    entry = _dataset[0]
    for answer in (entry["answer"], "x + 1", "[[1]]", ""):  # imports what grading imports late
        try:
            _dataset.score_answer(answer, entry)
        except Exception:  # noqa: BLE001 - its graders raise whatever they meet
            continue


def grade(request: dict[str, Any], channel: Answering) -> None:
    """Reply with the score of `answer` to the question in `entry`, pickled and in base64."""
    random.seed(0)
    entry = pickle.loads(base64.b64decode(request["entry"]))
    try:
        score = float(_dataset.score_answer(request["answer"], entry))
        reply = json.dumps({"value": values.encode(score, values.not_plain)}).encode()
    except BaseException as error:  # noqa: BLE001 - its graders raise whatever they meet
        reply = raised(error)
    channel.send(limited(reply))


def _evaluate_nothing_else() -> None:
    """Let the datasets evaluate lists and expressions, and nothing else that is Python."""
    for name in _LISTS:
        vars(importlib.import_module(f"reasoning_gym.{name}"))["eval"] = ast.literal_eval
    sympy: Any = importlib.import_module("sympy")
    parse = sympy.parse_expr
    forbidden = {*vars(importlib.import_module("builtins"))} - {"abs", "max", "min", "pow", "round"}

    def parse_expression(text: str, *rest: Any, **settings: Any) -> Any:
        is_plain = _EXPRESSION.fullmatch(text) and "__" not in text
        if not is_plain or _ATTRIBUTE.search(text) or forbidden & {*re.findall(r"\w+", text)}:
            raise ValueError("it is no expression")
        return parse(text, *rest, **settings)

    sympy.parse_expr = parse_expression
    for name in ("games.countdown", "games.puzzle24"):
        vars(importlib.import_module(f"reasoning_gym.{name}"))["parse_expr"] = parse_expression
