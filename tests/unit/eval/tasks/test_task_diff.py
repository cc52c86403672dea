"""The diff task: its diffs against an applier of our own, and how exact an answer must be."""

import re

import pytest

from eval.task import Example, Split
from eval.tasks.diff import Diff

SPLITS: tuple[Split, ...] = ("train", "validation", "test")
TASK = Diff()


def applied(text: str, diff: str) -> str:
    """Apply hunks by their line numbers; every context line and removed line must be there."""
    old, new = text.split("\n"), []
    done = 0  # lines of the old text that are in the new one, or not to be
    for line in diff.split("\n"):
        header = re.fullmatch(r"@@ -(\d+)(?:,(\d+))? \+(\d+)(?:,(\d+))? @@", line)
        if header:
            start = int(header[1]) - (header[2] != "0")
            new += old[done:start]
            done = start
            assert len(new) == int(header[3]) - (header[4] != "0")
        elif line[0] == "+":
            new.append(line[1:])
        else:
            assert old[done] == line[1:]
            new += [old[done]] if line[0] == " " else []
            done += 1
    return "\n".join(new + old[done:])


def parts(example: Example) -> tuple[str, str]:
    """The text and the diff of a prompt."""
    text, diff = example.prompt.partition("\n")[2].split("\n---\n")
    return text, diff


@pytest.mark.parametrize("max_lines", [3, 5, 8])
def test_every_response_is_what_applying_the_diff_gives(max_lines):
    examples = [each for split in SPLITS for each in Diff(max_lines).examples(split)]
    assert len(examples) > 1_900
    for example in examples:
        text, diff = parts(example)
        assert applied(text, diff) == example.response == example.reference, example
        assert max(text.count("\n"), 2) < max_lines


def test_every_diff_in_a_document_gives_the_text_after_it():
    found = 0
    for text in (text for document in TASK.documents(0) for text in document.split("\n\n")):
        if text.startswith("A text"):
            before, diff, after = text.split("\n---\n")
            assert applied(before.partition("\n")[2], diff) == after.partition("\n")[2], text
            found += 1
    assert found > 1_000


def test_a_diff_fits_in_one_place_only():
    for example in TASK.examples("test"):
        text, diff = parts(example)
        lines = text.split("\n") + [line[1:] for line in diff.split("\n") if line[0] == "+"]
        assert len({line.split()[-1] for line in lines}) == len(lines), example


def test_blank_lines_around_an_answer_and_a_fence_do_not_matter_but_lines_do():
    def score(response: str) -> float | None:
        return TASK.verify(response, "red box\nhen").score

    assert score("red box\nhen\n") == 1.0
    assert score("\nred box\r\nhen") == 1.0
    assert score("```\nred box\nhen\n```") == 1.0
    assert score("red box\n\nhen") == 0.0
    assert score("red box hen") == 0.0
    assert score("+red box\nhen") == 0.0
    assert score("hen\nred box") == 0.0
    assert score("") == 0.0


def test_the_number_of_lines_is_checked():
    with pytest.raises(ValueError, match="max_lines is from 3 to 8, not 2"):
        Diff(2)
