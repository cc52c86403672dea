"""Every generator of reasoning-gym: questions, the same in every process, gold answers graded 1."""

import os
import subprocess
import sys
from itertools import islice

import pytest

from eval.tasks import load
from eval.tasks.reasoning_gym import REFUSED

pytest.importorskip("reasoning_gym")
from reasoning_gym.factory import DATASETS

pytestmark = pytest.mark.slow
NUMBER = 6
WRONG = ("", "no idea", "-1", "[1, 2]", "[[0]]", '{"a": 1}', "(1", "None", "a b c\nd e f", "9" * 50)
MADE = """
import sys
from itertools import islice
from eval.tasks import load
task = load(f"reasoning_gym(name={sys.argv[1]})")
print([(each.prompt, each.reference) for each in islice(task.examples("train"), int(sys.argv[2]))])
"""


@pytest.mark.parametrize("name", sorted(set(DATASETS) - set(REFUSED)))
def test_a_generator_makes_questions_and_grades_its_own_answers_as_right(name: str) -> None:
    task = load(f"reasoning_gym(name={name})")
    examples = list(islice(task.examples("train"), NUMBER))
    assert len({example.id for example in examples}) == NUMBER
    for example in examples:
        assert example.prompt.strip()
        assert example.response
        verdict = task.verify(example.response, example.reference)
        assert verdict.score == 1.0, verdict
    for wrong in WRONG:
        verdict = task.verify(wrong, examples[0].reference)
        assert verdict.score is None or 0.0 <= verdict.score < 1.0


@pytest.mark.parametrize("name", sorted(set(DATASETS) - set(REFUSED)))
def test_a_generator_makes_the_same_questions_in_every_process(name: str) -> None:
    made = [
        subprocess.run(
            [sys.executable, "-c", MADE, name, str(NUMBER)],
            env={**os.environ, "PYTHONHASHSEED": seed},
            capture_output=True,
            check=True,
            text=True,
        ).stdout.splitlines()[-1]
        for seed in ("1", "2")
    ]
    assert made[0] == made[1]


@pytest.mark.parametrize("name", sorted(REFUSED))
def test_a_generator_without_an_answer_of_its_own_is_refused(name: str) -> None:
    with pytest.raises(ValueError, match=f"`{name}` cannot be used"):
        load(f"reasoning_gym(name={name})")
