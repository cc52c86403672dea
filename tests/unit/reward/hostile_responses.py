"""Responses of a million characters that are hard to read, and all that reads responses."""

import json
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

from reward import extract, shaping
from reward.verifiers.choice import choice
from reward.verifiers.code import program_of
from reward.verifiers.diff import produces
from reward.verifiers.instructions import CHECKS, instructions
from reward.verifiers.numeric import numeric
from reward.verifiers.sql import orders_its_rows, without_end
from reward.verifiers.symbolic import symbolic
from reward.verifiers.text import find_names, text

LENGTH = 1_000_000
# Quadratic time is minutes or hours at this length, linear time a tenth of a second.
LIMIT_S = 6.0
ARGUMENTS = {
    "num_paragraphs": 3,
    "nth_paragraph": 1,
    "first_word": "a",
    "num_placeholders": 3,
    "postscript_marker": "P.S.",
    "num_bullets": 3,
    "num_highlights": 4,
    "section_spliter": "SECTION",
    "num_sections": 3,
    "num_sentences": 4,
    "relation": "at least",
    "capital_relation": "at least",
    "capital_frequency": 3,
    "forbidden_words": ["zebra"],
}
PATTERNED = [
    name for name in CHECKS if name.partition(":")[0] not in ("startend", "combination", "keywords")
]
READERS: dict[str, Callable[[str], object]] = {
    "boxed": extract.boxed,
    "hashes": extract.after_hashes,
    "lone number": extract.lone_number,
    "numeric": partial(numeric, reference="3"),
    "numeric with a unit": partial(numeric, reference="3 km"),
    "expression": partial(symbolic, reference="3"),
    "choice": partial(choice, reference="A"),
    "choice by text": partial(choice, reference="A\nA. red\nB. light blue"),
    "program": program_of,
    "text": partial(text, reference="lima"),
    "leading sentence": partial(text, reference="lima", within="leading_sentence"),
    "named": lambda response: find_names(response, ["lima", "new york"]),
    "diff": partial(produces, original="a\n", expected="b\n"),
    "the end of SQL": without_end,
    "the order of SQL": orders_its_rows,
    "form": lambda response: shaping.thinking([response]),
    "repetition": lambda response: shaping.repetition([response]),
    **{
        name: partial(instructions, reference=json.dumps([[name, ARGUMENTS]])) for name in PATTERNED
    },
}


@dataclass(frozen=True)
class Hostile:
    """How a response begins, what it repeats, how it ends, and at which reader it is aimed."""

    first: str
    unit: str
    last: str
    aimed_at: str

    def response(self) -> str:
        """Return it, a million characters long."""
        number = (LENGTH - len(self.first)) // len(self.unit)
        return self.first + self.unit * number + self.last


HOSTILE: dict[str, Hostile] = {
    "a fence of spaces": Hostile("```", " ", "`", "program"),
    "a fence with a long label": Hostile("```", "a", "`", "program"),
    "fences": Hostile("", "```\n", "", "program"),
    "nested boxes": Hostile(r"\boxed{" * (LENGTH // 8), "}", "", "boxed"),
    "open boxes": Hostile("", r"\boxed{", "", "boxed"),
    "marks in the wrong order": Hostile("", "\u0301\u0316", "", "text"),
    "rows of marks": Hostile("\u0301" * (LENGTH // 2), "\u0316", "a", "named"),
    "marks that come apart": Hostile("", "\u0f73", "", "text"),
    "digits": Hostile("answer is ", "9", ".", "numeric"),
    "thousands": Hostile("answer is 1", ",111", "1", "numeric"),
    "fractions": Hostile("", "1/", "", "numeric"),
    "powers of ten": Hostile("", "1.5x10^", "3", "numeric"),
    "mixed numbers": Hostile("", "1 1/", "3", "numeric"),
    "fractions of LaTeX": Hostile("", r"1\frac{1}", "{3}", "numeric"),
    "thousands of LaTeX": Hostile("", "1{,}", "3", "numeric"),
    "measures": Hostile("", "1 kilo", "3", "numeric with a unit"),
    "fractions of measures": Hostile("", "1/1.", "3 km", "numeric with a unit"),
    "formulas": Hostile("", "$x", "", "expression"),
    "names of options": Hostile("", "light ", "red", "choice by text"),
    "a long fraction": Hostile("1/", "1", "/3", "lone number"),
    "answers": Hostile("", "answer is ", "3", "choice"),
    "hashes": Hostile("", "####\n", "", "hashes"),
    "hashes and spaces": Hostile("####", " ", "", "hashes"),
    "spaces": Hostile("", " ", "x", "leading sentence"),
    "lines": Hostile("", "\n", "", "length_constraints:number_paragraphs"),
    "letters in brackets": Hostile("", "(A)", "", "choice"),
    "tags": Hostile("", "<think>", "", "form"),
    "a long thought": Hostile("<think>", "a", "</think>", "form"),
    "stars": Hostile("", "*", "", "detectable_format:number_highlighted_sections"),
    "highlights": Hostile("", "* a", "", "detectable_format:number_bullet_lists"),
    "placeholders": Hostile("", "[", "", "detectable_content:number_placeholders"),
    "marks of sentences": Hostile("", "?!", "a", "length_constraints:number_sentences"),
    "short sentences": Hostile("", "P. S. ", "", "detectable_content:postscript"),
    "quotes": Hostile("", "'", ";", "the end of SQL"),
    "comments": Hostile("", "/*", ";", "the end of SQL"),
    "comments at the end": Hostile(";", "--\n", "x", "the end of SQL"),
    "brackets of SQL": Hostile("", "[(", ";", "the order of SQL"),
    "order by nothing": Hostile("order", " ", "bye", "the order of SQL"),
    "hunks": Hostile("", "@@ -1,1 +1,1 @@\n", "", "diff"),
    "sections": Hostile("", "SECTION 1", "", "detectable_format:multiple_sections"),
    "points and letters": Hostile("", "a.", "", "change_case:capital_word_frequency"),
}
