"""Completing small Python functions: a signature and a docstring in, the body out. A skill task.

Graded by hidden calls in a sandbox, so any body that gives the right values is right. A body with
its constants is one item, whatever function and parameters are called: a test item's never occurs
in training, though other constants in the same body do. Not a test of algorithms.
"""

import json
import random
import re
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from textwrap import dedent, indent
from typing import ClassVar, Literal

from eval.task import Example, FlawedResponse, Metric, Split, Task, split_of
from eval.tasks.code_compositions import COMPOSITIONS
from eval.tasks.code_families import (
    SEVERAL_LINES,
    STATEMENTS,
    Arguments,
    Constant,
    Family,
    Value,
)
from eval.tasks.lists import THREE, in_full_lists
from reward import extract
from reward.verdict import Verdict
from reward.verifiers.code import Case, passes_calls

Lines = Literal["one", "several"]

_NUM_EXAMPLES = 2_400  # of all splits
_DOCUMENTS_PER_FAMILY: dict[Lines, int] = {"one": 12, "several": 45}
_SHARE_STATEMENTS = 0.35  # of functions that documents tell of without a `def`
_SHARE_CALLED = 0.4  # of the others
_MAX_ARGUMENTS = 60  # that are tried as hidden cases
_FEWEST_CASES = 3
_MAX_RELATIVES = 24
_FAMILIES: dict[Lines, tuple[Family, ...]] = {
    "one": COMPOSITIONS + STATEMENTS,
    "several": SEVERAL_LINES,
}
_QUESTIONS = (
    "Complete the function.",
    "Complete this Python function.",
    "Finish the function.",
    "Write the rest of the function.",
)
_PARAMETERS: dict[str, tuple[str, ...]] = {
    "number": ("x", "a", "number", "value"),
    "two numbers": ("x", "a", "one", "left"),
    "list": ("numbers", "values", "items", "data"),
    "word": ("s", "word", "text", "name"),
}
_INDENT = "    "
_LINE_ENDS = "\r\n"
_DEFINITION = re.compile(r"^(?:def|import|from) ", re.MULTILINE)
_TIMEOUT_S = 1.0  # a right body takes no time at all
_SECOND = {"x": "y", "a": "b", "one": "two", "left": "right"}


def _shape(family: Family) -> str:
    """Return what families must share for their functions to be mistaken for each other."""
    return f"{family.takes} {[type(constant).__name__ for constant in family.constants[0]]}"


_ALIKE: defaultdict[str, list[Family]] = defaultdict(list)
for _family in (*COMPOSITIONS, *STATEMENTS, *SEVERAL_LINES):
    _ALIKE[_shape(_family)].append(_family)


@dataclass(frozen=True)
class Function:
    """A family with its constants, and what function and parameters are called."""

    family: Family
    constants: tuple[Constant, ...]
    name: str = ""
    parameter: str = "x"

    @property
    def id(self) -> str:
        """The body, whatever its parameters are called, on one line."""
        return " ".join(replace(self, parameter="x").body.split())

    @property
    def split(self) -> Split:
        """The split of the body."""
        return split_of(f"code {self.id}", validation=0.09)

    @property
    def signature(self) -> str:
        """The first line: `def add(x):`."""
        takes_two = self.family.takes == "two numbers"
        second = f", {_SECOND[self.parameter]}" if takes_two else ""
        return f"def {self.name}({self.parameter}{second}):"

    @property
    def says(self) -> str:
        """What the docstring says."""
        return f"Return {self._filled(self.family.says)}."

    @property
    def head(self) -> str:
        """Signature and docstring."""
        return f'{self.signature}\n    """{self.says}"""'

    @property
    def body(self) -> str:
        """The lines of the body, not indented."""
        return self._filled(self.family.body)

    def results(self, cases: Sequence[Arguments]) -> list[Value]:
        """What the function gives for each of the arguments."""
        return [self.family.run(*arguments, *self.constants) for arguments in cases]

    def _filled(self, text: str) -> str:
        second = _SECOND.get(self.parameter, "")
        first_constant, last_constant = self.constants[0], self.constants[-1]
        return text.format(x=self.parameter, y=second, j=first_constant, k=last_constant)


class Code(Task):
    """Functions with bodies of one line, of several, or of both kinds, half and half."""

    name = "code"
    version = 4
    kind = "skill"
    summary = "bodies of small Python functions, run on hidden cases in a sandbox"
    metrics: ClassVar[tuple[Metric, ...]] = ("choice_accuracy", "verified_accuracy")
    max_new_tokens = 72
    document_stop = ("\n\n", "\ndef ", "\n#")
    document_separator = "\n\n\n"

    def __init__(self, lines: str = "both") -> None:
        if lines not in (*_FAMILIES, "both"):
            raise ValueError(f"lines is `one`, `several` or `both`, not `{lines}`")
        self._kinds: list[Lines] = [kind for kind in _FAMILIES if lines in (kind, "both")]

    def examples(self, split: Split) -> Iterator[Example]:
        """Yield a function of each body of the split that was drawn, every family alike."""
        for number, (kind, function) in enumerate(self._functions(split)):
            yield _example(kind, function, random.Random(f"code {split} {number} {function.id}"))

    def documents(self, seed: int) -> Iterator[str]:
        """Yield Python files with one or three functions, and single statements explained.

        Other bodies than those of the examples are told of too, but none of validation or test.
        """
        rng = random.Random(f"code documents {seed}")
        functions: list[str] = []
        called: list[str] = []
        statements: list[str] = []
        for kind in self._kinds:
            for family in _FAMILIES[kind]:
                for function in _drawn(family, "train", _DOCUMENTS_PER_FAMILY[kind], rng):
                    if rng.random() < _SHARE_STATEMENTS:
                        statements.append(f"# {function.says}\n{function.body}")
                    elif rng.random() < _SHARE_CALLED:
                        called.append(_called(function, rng))
                    else:
                        functions.append(_definition(function))
        between = self.document_separator
        documents = in_full_lists(functions, rng, separator=between, most=THREE)
        documents += in_full_lists(called, rng, separator=between, most=THREE)
        documents += in_full_lists(statements, rng, most=THREE)
        rng.shuffle(documents)
        yield from documents

    def verify(self, response: str, reference: str) -> Verdict:
        """Run the function that the response defines, or completes with a bare body, on the cases.

        The last fenced block counts, else what begins with a `def`, else all of it as a body.
        """
        try:
            expected = json.loads(reference)
            function, signature = expected["function"], expected["signature"]
            cases = [Case(arguments, value) for arguments, value in expected["cases"]]
        except (ValueError, TypeError, KeyError):
            return Verdict(None, None, f"`{reference[:80]}` is no function with its cases")
        program = _program(response, function, signature)
        return passes_calls(program, function, cases, timeout_s=_TIMEOUT_S)

    def _functions(self, split: Split) -> list[tuple[Lines, Function]]:
        """Return the functions of a split, in a shuffled order, no body twice."""
        found: dict[str, tuple[Lines, Function]] = {}
        for kind in self._kinds:
            families = _FAMILIES[kind]
            quota = -(-_NUM_EXAMPLES // len(self._kinds) // len(families))
            for family in families:
                rng = random.Random(f"code {family.takes} {family.body}")
                chosen = rng.sample(family.constants, min(quota, len(family.constants)))
                for constants in chosen:
                    function = _named(family, constants, rng)
                    if function.split == split:
                        found.setdefault(function.id, (kind, function))
        functions = list(found.values())
        random.Random(f"code {split}").shuffle(functions)
        return functions


def _named(family: Family, constants: tuple[Constant, ...], rng: random.Random) -> Function:
    parameter = rng.choice(_PARAMETERS[family.takes])
    return Function(family, constants, rng.choice(family.names), parameter)


def _drawn(family: Family, split: Split, most: int, rng: random.Random) -> list[Function]:
    """Return up to `most` functions of the split with different constants."""
    constants = rng.sample(family.constants, min(2 * most, len(family.constants)))
    functions = [_named(family, each, rng) for each in constants]
    return [function for function in functions if function.split == split][:most]


def _definition(function: Function) -> str:
    """Return the function as in a Python file."""
    return f"{function.head}{_continuation(function)}"


def _called(function: Function, rng: random.Random) -> str:
    """Return the function as in a Python file, with a call of it."""
    arguments = ", ".join(map(repr, function.family.arguments(rng, function.constants)))
    return f"{_definition(function)}\n\n\nprint({function.name}({arguments}))"


def _example(kind: Lines, function: Function, rng: random.Random) -> Example:
    relatives = _relatives(function, rng)
    cases = _cases(function, relatives, rng)
    expected = function.results(cases)
    wrong = [other for other in relatives if other.results(cases) != expected]
    other_constants = [each for each in wrong if each.family is function.family]
    other_families = [each for each in wrong if each.family is not function.family]
    right = _continuation(function)
    calls = [[list(case), value] for case, value in zip(cases, expected, strict=True)]
    reference = {"function": function.name, "signature": function.signature, "cases": calls}
    flawed = {
        "another constant": _continuation(other_constants[0]),
        "another function": _continuation(other_families[0]),
        "returns nothing": right.replace("return ", "result = "),
    }
    return Example(
        id=function.id,
        prompt=f"{rng.choice(_QUESTIONS)}\n{function.head}",
        response=f"{function.signature}{right}",
        reference=json.dumps(reference, separators=(",", ":")),
        document=function.head,
        continuation=right,
        distractors=_distractors(right, [*other_constants[:1], *other_families, *other_constants]),
        flawed=tuple(
            FlawedResponse(f"{function.signature}{body}", flaw) for flaw, body in flawed.items()
        ),
        group=f"{kind} line" if kind == "one" else f"{kind} lines",
    )


def _distractors(right: str, wrong: list[Function]) -> tuple[str, ...]:
    """Return three continuations, none of which begins with another: `x + 3` and `x + 37` do."""
    chosen = [right]
    for other in wrong:
        text = _continuation(other)
        if not any(text.startswith(each) or each.startswith(text) for each in chosen):
            chosen.append(text)
        if len(chosen) > 3:
            break
    return tuple(chosen[1:])


def _continuation(function: Function) -> str:
    return "\n" + indent(function.body, _INDENT)


def _relatives(function: Function, rng: random.Random) -> list[Function]:
    """Return functions that are easily mistaken for it: other constants, other operations."""
    family, constants = function.family, function.constants
    alike = [each for each in _ALIKE[_shape(family)] if each is not family]
    families = rng.sample(alike, min(_MAX_RELATIVES, len(alike)))
    # Neighbours in the table of constants are the numbers next to these.
    place = family.constants.index(constants)
    beside = [*family.constants[max(0, place - 1) : place + 2], *rng.sample(family.constants, 4)]
    others = dict.fromkeys(each for each in beside if each != constants)
    relatives = [Function(each, constants, "", function.parameter) for each in families]
    relatives += [Function(family, each, "", function.parameter) for each in others]
    rng.shuffle(relatives)
    return relatives


def _cases(function: Function, relatives: list[Function], rng: random.Random) -> list[Arguments]:
    """Return arguments for which the function's relatives give something else than it does.

    Two values at least occur among the results, so that no constant is right everywhere.
    """
    cases: list[Arguments] = []
    results: list[Value] = []
    undetected = relatives
    for _ in range(_MAX_ARGUMENTS):
        case = function.family.arguments(rng, function.constants)
        expected = function.results([case])
        left = [other for other in undetected if other.results([case]) == expected]
        is_telling = len(left) < len(undetected) or expected[0] not in results
        if case not in cases and (is_telling or len(cases) < _FEWEST_CASES):
            cases.append(case)
            results += expected
        undetected = left
        is_constant = results.count(results[0]) == len(results)
        if not undetected and not is_constant and len(cases) >= _FEWEST_CASES:
            break
    return cases


def _program(response: str, function: str, signature: str) -> str:
    """Return the code of a response: its last fenced block, its `def`, or itself as a body."""
    block = extract.code_block(response, "python", defining=function)
    code = response if block is None else block
    definition = _DEFINITION.search(code)
    if definition is not None:
        return code[definition.start() :]
    return f"{signature}\n{indent(dedent(code.strip(_LINE_ENDS)), _INDENT)}"
