"""GSM8K: word problems of grade school mathematics in two to eight steps (Cobbe et al. 2021).

A row is `question` and `answer`, which works the result out and ends with `#### 18`. Steps hold
calculator annotations (`<<48/2=24>>`), which are for a tool that nothing here has: taken out.
"""

import re
from typing import ClassVar

from eval.task import Example, Split
from eval.tasks.benchmark import BenchmarkTask, Row, RowsError, digest
from reward import extract
from reward.verdict import Verdict
from reward.verifiers.numeric import numeric

_ANNOTATION = re.compile(r"<<[^<>]*>>")
_BLANK_LINES = re.compile(r"\n\s*\n")


class Gsm8k(BenchmarkTask):
    """A document gives the result at once, or works it out; a chat response works it out.

    Right is the final number, as `reward.verifiers.numeric` reads it: after `####` if that is
    there. Groups are the numbers of calculations in the published solution.
    """

    name = "gsm8k"
    version = 1
    summary = "word problems of grade school mathematics"
    hub = "openai/gsm8k"
    subset = "main"
    hub_splits: ClassVar[dict[Split, str]] = {"train": "train", "test": "test"}
    max_new_tokens = 256
    document_stop = ("\n",)
    worked_stop = ("\n\n", "\nQuestion:")

    def example(self, row: Row) -> Example:
        """Read one problem; RowsError if its answer does not end with `####` and a number."""
        question, answer = row.text("question").strip(), row.text("answer")
        marked = extract.after_hashes(answer)
        reference = None if marked is None else extract.lone_number(marked)
        if reference is None:
            raise RowsError(f"{row.where}: `answer` does not end with `#### NUMBER`")
        solution = _BLANK_LINES.sub("\n", _ANNOTATION.sub("", answer).strip())
        document = f"Question: {question}\nAnswer:"
        return Example(
            id=f"gsm8k {digest(question)}",
            prompt=question,
            response=solution,
            reference=reference,
            document=document,
            continuation=f" {reference}",
            group=str(len(_ANNOTATION.findall(answer))),
            worked_document=document,
            worked_continuation=f" {solution}",
        )

    def verify(self, response: str, reference: str) -> Verdict:
        """Compare the final number."""
        return numeric(response, reference)
