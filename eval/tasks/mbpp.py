"""MBPP: short Python functions described in a sentence, with three tests each (Austin et al. 2021).

A row is `task_id`, `text`, `code`, `test_list` and `test_setup_code`. One file holds all 974; the
paper splits them by id: 11-510 test, 511-600 validation, 601-974 train. 1-10, the paper's prompts
for few-shot, are in no split here: demonstrations come from the training rows.

Of the 500 published test solutions one (123) takes more than our three seconds; its item stays.
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

_IDS: dict[Split, range] = {
    "test": range(11, 511),
    "validation": range(511, 601),
    "train": range(601, 975),
}
_BEGIN, _DONE = "[BEGIN]", "[DONE]"
_DEFINED = re.compile(r"^def (\w+)", re.MULTILINE)


class Mbpp(BenchmarkTask):
    """The tests are shown, as in the paper, since a function's name stands nowhere else.

    timeout_s: processor seconds that the tests of one function may take.
    """

    name = "mbpp"
    version = 1
    summary = "short Python functions from a sentence and three tests, run in a sandbox"
    hub = "google-research-datasets/mbpp"
    subset = "full"
    hub_splits: ClassVar[dict[Split, str]] = {
        "train": "train",
        "validation": "validation",
        "test": "test",
    }
    is_one_file = True
    max_new_tokens = 384
    document_stop = (_DONE,)

    def __init__(self, _rows: Mapping[Split, Rows], timeout_s: float = 3.0) -> None:
        super().__init__(_rows)
        self.timeout_s = timeout_s

    def is_in(self, row: Row, split: Split) -> bool:
        """Return whether the row's id is one of the split."""
        return row.value("task_id", int, "a whole number") in _IDS[split]

    def example(self, row: Row) -> Example:
        """Read one function."""
        text, tests = row.text("text").strip(), row.texts("test_list")
        code = row.text("code").replace("\r\n", "\n").strip()
        shown = "\n".join(tests)
        hidden = {
            "tests": f"{row.text('test_setup_code')}\n{shown}".strip(),
            "entry_point": _entry_point(code, shown),
        }
        asked = f"{text} Your code should pass these tests:\n\n{shown}"
        return Example(
            id=f"mbpp {row.value('task_id', int, 'a whole number')}",
            prompt=asked,
            response=f"```python\n{code}\n```",
            reference=json.dumps(hidden),
            document="You are an expert Python programmer, and here is your task: "
            f"{asked}\n{_BEGIN}",
            continuation=f"\n{code}\n{_DONE}",
        )

    def verify(self, response: str, reference: str) -> Verdict:
        """Run the tests on the last code block, or on what stands before `[DONE]`."""
        try:
            given: dict[str, str] = json.loads(reference)
            tests, entry_point = given["tests"], given["entry_point"]
        except (ValueError, KeyError, TypeError):
            return Verdict(None, None, "the reference holds no tests")
        if extract.code_block(response, "python") is None:
            response = response.partition(_BEGIN)[2] or response
            response = response.partition(_DONE)[0]
        return passes_tests(response, tests, entry_point=entry_point, timeout_s=self.timeout_s)


def _entry_point(code: str, tests: str) -> str:
    """Return which function of the solution the tests call: some are called like a builtin."""
    called = re.findall(r"\w+", tests)
    defined = [name for name in _DEFINED.findall(code) if name in called]
    return min(defined, key=called.index, default="")
