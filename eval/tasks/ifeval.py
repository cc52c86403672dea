"""IFEval: prompts whose instructions can be checked by a program (Zhou et al. 2023).

A row is `prompt`, `instruction_id_list` and `kwargs`, one mapping an instruction. The score is the
published prompt-level strict accuracy: right is a response that follows every instruction. How
each is checked is reward/verifiers/instructions.py. A test set and nothing else.
"""

import json
from typing import Any, ClassVar

from eval.task import Example, Split
from eval.tasks.benchmark import BenchmarkTask, Row, RowsError, digest
from reward.verdict import Verdict
from reward.verifiers.instructions import instructions


class IfEval(BenchmarkTask):
    """Prompts with one to three instructions each."""

    name = "ifeval"
    version = 1
    summary = "instructions that a program can check: lengths, formats, words to use or avoid"
    hub = "google/IFEval"
    hub_splits: ClassVar[dict[Split, str]] = {"test": "train"}  # the only one it has there
    max_new_tokens = 1280
    document_stop = ()

    def example(self, row: Row) -> Example:
        """Read one prompt; RowsError unless there are arguments for each instruction."""
        prompt, names = row.text("prompt"), row.texts("instruction_id_list")
        arguments = row.value("kwargs", list, "a list of mappings")
        if len(arguments) != len(names) or not all(isinstance(a, dict) for a in arguments):
            raise RowsError(f"{row.where}: `kwargs` is not one mapping for each instruction")
        return Example(
            id=f"ifeval {digest(prompt)}",
            prompt=prompt,
            response="",
            reference=json.dumps([[names[i], _given(a)] for i, a in enumerate(arguments)]),
            document=f"{prompt}\n",
            continuation="",
        )

    def verify(self, response: str, reference: str) -> Verdict:
        """Check each instruction."""
        return instructions(response, reference)


def _given(arguments: dict[str, Any]) -> dict[str, Any]:
    """Return the arguments that are set: the hub's rows have every column, mostly empty."""
    return {key: value for key, value in arguments.items() if value is not None}
