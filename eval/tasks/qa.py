"""Anybody's questions and answers, a row each: a task in one line of a recipe.

    qa(file=mine.csv, match=exact)

A row has a question, its answer and, where a question is about something, a `context` above it. A
`category` becomes the item's group. Several answers may be right: a list, or what SQuAD and
TriviaQA write. For `regex` and `json_schema` the column `pattern` or `schema` says what is right,
and the answer is an example of it. `train=FILE` gives rows to learn from and to show in few-shot
prompts.
"""

import json
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from functools import partial
from typing import Any, cast

from eval.task import Example, Split
from eval.tasks.benchmark import BenchmarkTask, Row, Rows, RowsError, digest
from eval.tasks.multiple_choice import lettered, offered
from eval.tasks.options import answer_column, columns_of
from reward import extract
from reward.units import unit_of
from reward.verdict import Verdict
from reward.verifiers.choice import choice
from reward.verifiers.json_schema import json_schema, problem_of_schema
from reward.verifiers.numeric import numeric
from reward.verifiers.pattern import pattern, problem_of_pattern
from reward.verifiers.symbolic import LONGEST_REFERENCE, is_expression, symbolic
from reward.verifiers.text import normalised, same_words, says_one_of

MATCHES = {
    "exact": "the whole response is the answer, but for case, spaces and the marks around it",
    "contains": "the response says the answer, as whole words",
    "number": "the response's final number is the answer's, units converted",
    "math": "the response's final expression equals the answer",
    "choice": "the response settles on the letter of the right option",
    "regex": "the pattern matches somewhere in the response",
    "json_schema": "the response is JSON that follows the schema",
}
QUESTIONS = ("question", "prompt", "instruction", "problem", "query", "input")
ANSWERS = (
    *("answer", "answers", "output", "response", "target", "reference", "completion"),
    *("expected", "ideal", "solution"),
)
CONTEXTS = ("context", "passage")
GROUPS = ("category", "subject", "group")
_BLANK_LINES = re.compile(r"\n\s*\n")
_BETWEEN = "\n"  # of several right answers in a reference, which have no line breaks
# What is right where it is no answer, and how a text that says so is refused.
_RULES: dict[str, tuple[tuple[str, ...], str, Callable[[str], str]]] = {
    "regex": (("pattern", "regex"), "pattern", problem_of_pattern),
    "json_schema": (("schema", "json_schema"), "schema", problem_of_schema),
}


class Qa(BenchmarkTask):
    """Questions and answers of yours.

    match: how a response is compared with the answer, one of `MATCHES`. question, answer: the
    columns, where they are not called as in `QUESTIONS` and `ANSWERS`; rule: that of the pattern or
    schema, where it is not called as in `_RULES`. tolerance: how far a number
    may be off. options: the most choices that a question has. max_new_tokens: of a response.
    """

    name = "qa"
    version = 2
    summary = "questions and answers of yours"

    def __init__(
        self,
        _rows: Mapping[Split, Rows],
        match: str = "",
        question: str = "",
        answer: str = "",
        rule: str = "",
        tolerance: float = 0.0,
        options: int = 4,
        max_new_tokens: int = 64,
    ) -> None:
        super().__init__(_rows)
        if match not in MATCHES:
            said = f"`match={match}` is not known" if match else "it is not said how to compare"
            ways = "; ".join(f"{name}: {meaning}" for name, meaning in MATCHES.items())
            raise ValueError(f"task `qa`: {said}; write one of match={'|'.join(MATCHES)} ({ways})")
        if tolerance and match != "number":
            raise ValueError("task `qa`: `tolerance` is of numbers; write `match=number` with it")
        if rule and match not in _RULES:
            raise ValueError("task `qa`: `rule` is of `match=regex` and `match=json_schema`")
        if max_new_tokens < 1 or tolerance < 0:
            raise ValueError("task `qa`: `max_new_tokens` and `tolerance` cannot be below that")
        self.match = match
        self.max_new_tokens = max_new_tokens
        self.tolerance = tolerance
        self.letters = offered(options)
        if match == "choice":
            self.metrics = ("choice_accuracy", "verified_accuracy")
        self._columns = {"question": str(question), "answer": str(answer), "rule": str(rule)}
        self._read_as: dict[str, str] = {}  # what is read, and from which column
        self._there: dict[str, None] = {}  # every column of the rows so far
        self._used: set[str] = set()
        self._compared: dict[str, str] = {}  # expressions, and where they stand

    def example(self, row: Row) -> Example:
        """Read one question; RowsError where it or its answer is missing or cannot be compared."""
        self._there |= dict.fromkeys(map(str, row.fields))
        question = self._question(row)
        group = next((name for name in GROUPS if _is_text(row.fields.get(name))), "")
        self._used.add(group)
        said = row.text(group) if group else ""
        if self.match == "choice":
            column = self._columns["answer"] or None
            self._used |= columns_of(row, column)
            self._read_as.setdefault("answer", answer_column(row, column))
            return lettered(row, question, self.name, self.letters, answer=column, group=said)
        example = Example(
            id=f"{self.name} {digest(question)}",
            prompt=question,
            response="",
            reference="",
            document=f"Question: {question}\nAnswer:",
            continuation="",
            group=said,
        )
        if self.match in _RULES:
            shown = self._shown(row)
            return replace(
                example, reference=self._rule(row), response=shown, continuation=f" {shown}"
            )
        column = self._column(row, "answer", ANSWERS)
        answers = self._answers(row, column)
        example = replace(
            example,
            response=answers[0],
            reference=_BETWEEN.join(answers),
            continuation=f" {answers[0]}",
        )
        given = row.fields[column]
        if self.match != "math" or not isinstance(given, str) or extract.boxed(given) is None:
            return example
        solution = _BLANK_LINES.sub("\n", given.strip())  # worked out, as in MATH
        return replace(
            example,
            response=solution,
            worked_document=example.document,
            worked_continuation=f" {solution}",
        )

    def demonstrations(self, split: Split = "train") -> Iterator[Example]:
        """Yield prompt and response; RowsError where rows say what is right and show none."""
        for example in super().demonstrations(split):
            if not example.response:
                what = _RULES[self.match][1]
                raise RowsError(
                    f"`{self.name}`: a row has a {what} and no answer to learn from: "
                    f"{example.prompt[:60]!r}; give each an `answer` that is right"
                )
            yield example

    def verify(self, response: str, reference: str) -> Verdict:
        """Compare the response with the right answers, as `match` says."""
        answers = reference.split(_BETWEEN)
        if self.match == "choice":
            return choice(response, reference, letters=self.letters)
        if self.match == "exact":
            return same_words(response, answers)
        if self.match == "contains":
            return says_one_of(response, answers)
        if self.match in _RULES:
            return (pattern if self.match == "regex" else json_schema)(response, reference)
        compare = symbolic if self.match == "math" else partial(numeric, tolerance=self.tolerance)
        return _best([compare(response, each) for each in answers])

    def remark(self) -> str:
        """Say which columns are read and which are not."""
        for split in self.splits:
            self.examples(split)
        read = ", ".join(f"{ours} from `{theirs}`" for ours, theirs in self._read_as.items())
        unread = ", ".join(f"`{name}`" for name in self._there if name not in self._used)
        texts = [where for each, where in self._compared.items() if not is_expression(each)]
        if texts:
            number = f"{len(texts)} of {len(self._compared)}"
            read += f"; {number} answers cannot be read as mathematics: texts, as in {texts[0]}"
        return read + (f"; not used: {unread}" if unread else "")

    def _question(self, row: Row) -> str:
        """Return the question, below what it is about; of Alpaca's rows above its `input`."""
        asked = self._column(row, "question", QUESTIONS)
        question = _asked(row, asked).strip()
        if not question:
            raise RowsError(f"{row.where}: `{asked}` is empty")
        for name in CONTEXTS:
            if name != asked and _is_text(row.fields.get(name)):
                question = f"{row.text(name).strip()}\n\n{question}"
                self._used.add(name)
        if asked == "instruction" and _is_text(row.fields.get("input")):
            question = f"{question}\n\n{row.text('input').strip()}"
        self._used |= {"input"} if asked == "instruction" else set()
        return question

    def _column(self, row: Row, ours: str, known: tuple[str, ...]) -> str:
        """Return the column of a question or answer: the one that was named, else a known one."""
        name = self._columns[ours] or next((each for each in known if each in row.fields), "")
        if not name:
            there = ", ".join(map(str, row.fields)) or "none"
            hint = f"name it: `{ours}=COLUMN`"
            raise RowsError(f"{row.where}: no column is the {ours}; there are {there}; {hint}")
        self._read_as.setdefault(ours, name)
        self._used.add(name)
        return name

    def _rule(self, row: Row) -> str:
        """Return the pattern or schema of a row; RowsError for one that is none."""
        names, what, problem_of = _RULES[self.match]
        named = self._columns["rule"]
        known = names if named or any(name in row.fields for name in names) else ANSWERS
        column = self._column(row, "rule", known)
        value = row.fields[column] if column in row.fields else row.text(column)
        if self.match == "json_schema" and not isinstance(value, str):
            value = json.dumps(value)
        if not isinstance(value, str):
            raise RowsError(f"{row.where}: `{column}` is no {what}, which is a text")
        if problem := problem_of(value):
            raise RowsError(f"{row.where}: `{column}` is no {what}: {problem}")
        return value

    def _shown(self, row: Row) -> str:
        """Return the answer of a row that shows what its pattern or schema asks for, if it does."""
        names, what, _ = _RULES[self.match]
        if not self._columns["rule"] and not any(name in row.fields for name in names):
            return ""  # the answer is the rule
        there = self._columns["answer"] or next((n for n in ANSWERS if n in row.fields), "")
        if not there:
            return ""
        self._read_as.setdefault("answer", there)
        self._used.add(there)
        value = row.fields.get(there)
        shown = value.strip() if isinstance(value, str) else json.dumps(value)
        verdict = self.verify(shown, self._rule(row))
        if shown and verdict.score != 1.0:
            said = f"does not follow the {what} of its row: {verdict.reason}"
            raise RowsError(f"{row.where}: `{there}` {said}")
        return shown

    def _answers(self, row: Row, column: str) -> list[str]:
        if column not in row.fields:
            row.text(column)  # raises, naming the columns that there are
        value = row.fields[column]
        if isinstance(value, list) and any(isinstance(each, list) for each in value):  # pyright: ignore[reportUnknownVariableType]
            hint = "write what any of may be the answer in one list"
            raise RowsError(f"{row.where}: `{column}` is a list of lists; {hint}")
        given = [each for each in _listed(value) if each]
        if not given:
            raise RowsError(f"{row.where}: `{column}` has no answer; take the row out")
        return list(dict.fromkeys(self._comparable(row, column, each) for each in given))

    def _comparable(self, row: Row, column: str, answer: str) -> str:
        """Return an answer as `verify` compares with it; RowsError where it cannot."""
        plain = " ".join(answer.split())
        if self.match == "contains" and not normalised(plain):
            hint = "write match=exact"
            raise RowsError(f"{row.where}: `{column}` `{plain}` has no letter or digit; {hint}")
        if self.match not in ("number", "math"):
            return plain
        marked = extract.after_hashes(answer) or extract.boxed(answer) or plain
        if self.match == "math":
            expression = " ".join(marked.split())
            if len(expression) > LONGEST_REFERENCE:
                size = f"has {len(expression)} characters, and at most {LONGEST_REFERENCE} are read"
                raise RowsError(f"{row.where}: `{column}` {size}")
            self._compared.setdefault(expression, row.where)
            return expression
        if (unit := unit_of(marked)) is not None and extract.only_number(marked):
            return f"{extract.only_number(marked)} {unit}"
        number = extract.lone_number(marked) or extract.only_number(marked)
        if number is None:
            hint = "give the number alone, or write match=contains"
            raise RowsError(f"{row.where}: `{column}` `{plain[:40]}` is not one number; {hint}")
        return number


def _best(verdicts: list[Verdict]) -> Verdict:
    """Return the verdict on the nearest of several right answers; of ungraded ones the last."""
    return max(verdicts, key=lambda each: -1.0 if each.score is None else each.score)


def _asked(row: Row, column: str) -> str:
    """Return a question, which may be a user's message, after one of the system's."""
    value = row.fields.get(column)
    if not isinstance(value, list):
        return row.text(column)
    said: list[str] = []
    for each in cast("list[Any]", value):
        message = cast("dict[str, Any]", each) if isinstance(each, dict) else {}
        content = message.get("content")
        if not isinstance(content, str) or message.get("role") not in ("system", "user"):
            hint = "a task asks one question; `prompts` takes conversations"
            raise RowsError(f"{row.where}: `{column}` is no question of a user's; {hint}")
        said.append(content)
    return "\n\n".join(said)


def _is_text(value: Any) -> bool:
    return isinstance(value, str) and bool(value.strip())


def _listed(value: Any) -> list[str]:
    """Return the right answers that a value holds; none where it holds no text or number."""
    if isinstance(value, str) and value.lstrip()[:2] in ('["', "['"):
        value = _parsed(value)
    if isinstance(value, bool):
        return [str(value).lower()]
    if isinstance(value, int | float):
        return [repr(value)]
    if isinstance(value, str):
        return [value.strip()]
    if isinstance(value, dict):
        fields = cast("dict[str, Any]", value)
        held = [fields.get(name) for name in ("text", "value", "aliases")]
        return [text for each in held for text in _listed(each)]
    if isinstance(value, list | tuple):
        return [text for each in cast("list[Any]", value) for text in _listed(each)]
    return []


def _parsed(text: str) -> Any:
    """Return what a list written as a text holds; the text itself where it is no JSON."""
    try:
        return json.loads(text)
    except ValueError:
        return text
