"""HumanEval: Python functions to complete from a signature and docstring (Chen et al. 2021).

A row is `task_id`, `prompt`, `canonical_solution`, `test` and `entry_point`. It is a test set and
nothing else: nothing is trained on it, and there are no demonstrations. pass@k comes from several
samples of each item.
"""

import json
import re
from collections.abc import Mapping
from typing import ClassVar

from eval.task import Example, Split
from eval.tasks.benchmark import BenchmarkTask, Row, Rows
from reward import extract
from reward.verdict import Verdict
from reward.verifiers.code import passes_tests


class HumanEval(BenchmarkTask):
    """A response is the rest of the function, or a code block with the whole of it.

    timeout_s: processor seconds that the tests of one function may take.
    """

    name = "humaneval"
    version = 1
    summary = "Python functions to complete, graded by their tests in a sandbox"
    hub = "openai/openai_humaneval"
    hub_splits: ClassVar[dict[Split, str]] = {"test": "test"}
    max_new_tokens = 512
    document_stop = ("\ndef ", "\nclass ", "\nif __name__", "\nprint(")

    def __init__(self, _rows: Mapping[Split, Rows], timeout_s: float = 3.0) -> None:
        super().__init__(_rows)
        self.timeout_s = timeout_s

    def example(self, row: Row) -> Example:
        """Read one function."""
        prompt, solution = row.text("prompt"), row.text("canonical_solution")
        reference = {key: row.text(key) for key in ("prompt", "test", "entry_point")}
        return Example(
            id=row.text("task_id"),
            prompt=f"Complete this Python function.\n\n{_block(prompt)}",
            response=_block(prompt + solution),
            reference=json.dumps(reference),
            document=prompt,
            continuation=solution,
        )

    def verify(self, response: str, reference: str) -> Verdict:
        """Run the tests on the prompt and its completion, or on the function written anew."""
        try:
            given: dict[str, str] = json.loads(reference)
            prompt, test, entry_point = given["prompt"], given["test"], given["entry_point"]
        except (ValueError, KeyError, TypeError):
            return Verdict(None, None, "the reference is not a prompt, a test and an entry point")
        return passes_tests(
            program_of(response, prompt, entry_point),
            test,
            entry_point=entry_point,
            given=prompt,
            timeout_s=self.timeout_s,
        )


def program_of(response: str, prompt: str, entry_point: str) -> str:
    """Return the program that a response makes of a prompt.

    A response that defines the function itself gets what the prompt has before it, its imports and
    helpers; any other goes on where the prompt ends.
    """
    block = extract.code_block(response, "python", defining=entry_point)
    code = response if block is None else block
    definition = re.compile(rf"^(?:async )?def {re.escape(entry_point)}\b", re.MULTILINE)
    if definition.search(code) is None:
        return prompt + code
    own = definition.search(prompt)
    return f"{prompt[: own.start()] if own else ''}\n{code}"


def _block(code: str) -> str:
    return f"```python\n{code.rstrip()}\n```"
