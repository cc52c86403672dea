"""IFEval: prompts whose instructions can be checked by a program (Zhou et al. 2023).

A row is `prompt`, `instruction_id_list` and `kwargs`, one mapping an instruction. The score is the
published prompt-level strict accuracy: right is a response that follows every instruction. The
other three published figures stand beside it: loose, and at the level of instructions. How each is
checked is reward/verifiers/instructions.py. A test set and nothing else.
"""

import json
from collections.abc import Mapping
from typing import Any, ClassVar

from eval.task import Example, FurtherScore, Split
from eval.tasks.benchmark import BenchmarkTask, Row, RowsError, digest
from reward.verdict import Verdict
from reward.verifiers.instructions import CannotCheck, follow_instructions, instructions

_LOOSE = "loose_accuracy"
_OF_INSTRUCTIONS = "instruction_accuracy"
_OF_INSTRUCTIONS_LOOSE = "instruction_loose_accuracy"


class IfEval(BenchmarkTask):
    """Prompts with one to three instructions each."""

    name = "ifeval"
    version = 2
    summary = "instructions that a program can check: lengths, formats, words to use or avoid"
    hub = "google/IFEval"
    hub_splits: ClassVar[dict[Split, str]] = {"test": "train"}  # the only one it has there
    further_metrics = (_LOOSE, _OF_INSTRUCTIONS, _OF_INSTRUCTIONS_LOOSE)
    max_new_tokens = 1280
    document_stop = ()

    def example(self, row: Row) -> Example:
        """Read one prompt; RowsError unless each of its instructions can be checked."""
        prompt, names = row.text("prompt"), row.texts("instruction_id_list")
        arguments = row.value("kwargs", list, "a list of mappings")
        if len(arguments) != len(names) or not all(isinstance(a, dict) for a in arguments):
            raise RowsError(f"{row.where}: `kwargs` is not one mapping for each instruction")
        reference = json.dumps([[names[i], _given(a)] for i, a in enumerate(arguments)])
        try:
            follow_instructions("", reference)
        except CannotCheck as error:
            raise RowsError(f"{row.where}: {error}") from error
        return Example(
            id=f"ifeval {digest(prompt)}",
            prompt=prompt,
            response="",
            reference=reference,
            document=f"{prompt}\n",
            continuation="",
        )

    def verify(self, response: str, reference: str) -> Verdict:
        """Check each instruction."""
        return instructions(response, reference)

    def further_scores(self, response: str, reference: str) -> Mapping[str, FurtherScore]:
        """Return the loose verdict, and the share of instructions followed, strict and loose.

        Shares weigh as many as there are, so that their mean is of instructions.
        """
        try:
            strict = [followed for _, followed in follow_instructions(response, reference)]
            loose = [
                followed for _, followed in follow_instructions(response, reference, loose=True)
            ]
        except CannotCheck:
            return dict.fromkeys(self.further_metrics, FurtherScore(None))
        number = len(strict)
        return {
            _LOOSE: FurtherScore(float(all(loose))),
            _OF_INSTRUCTIONS: FurtherScore(sum(strict) / number, number),
            _OF_INSTRUCTIONS_LOOSE: FurtherScore(sum(loose) / number, number),
        }


def _given(arguments: dict[str, Any]) -> dict[str, Any]:
    """Return the arguments that are set: the hub's rows have every column, mostly empty."""
    return {key: value for key, value in arguments.items() if value is not None}
