"""Diffs that fit are applied as patch(1) and git do; others are refused with a sentence."""

import difflib
import random

import pytest

from reward.verifiers.diff import apply_diff, produces, same_text

OLD = "one\ntwo\nthree\nfour\n"
NEW = "one\n2\nthree\nfour\nfive\n"
DIFF = """\
--- a/numbers
+++ b/numbers
@@ -1,4 +1,5 @@ heading
 one
-two
+2
 three
 four
+five
"""


def test_a_diff_is_applied():
    assert apply_diff(OLD, DIFF) == NEW
    assert apply_diff("", "@@ -0,0 +1,2 @@\n+a\n+b\n") == "a\nb\n"
    assert apply_diff("a\nb\n", "@@ -1,2 +0,0 @@\n-a\n-b\n") == ""
    assert apply_diff("a\nb\nc\n", "@@ -2 +2 @@\n-b\n+B") == "a\nB\nc\n"
    assert apply_diff("a\n\nb\n", "@@ -1,3 +1,3 @@\n a\n\n-b\n+c\n") == "a\n\nc\n"


def test_the_end_of_a_text_without_a_line_end_is_kept_or_changed():
    added = "@@ -1 +1 @@\n-a\n\\ No newline at end of file\n+a\n"
    assert apply_diff("a", added) == "a\n"
    removed = "@@ -1 +1 @@\n-a\n+a\n\\ No newline at end of file\n"
    assert apply_diff("a\n", removed) == "a"


def test_diffs_of_difflib_give_the_text_they_were_made_of():
    draw = random.Random(0)
    for _ in range(300):
        old = [draw.choice("abcd \n-+@") + "\n" for _ in range(draw.randrange(12))]
        old = [line.replace("\n\n", "\n") for line in old]
        new = [line for line in old if draw.random() < 0.8]
        for _ in range(draw.randrange(4)):
            new.insert(draw.randrange(len(new) + 1), draw.choice("abcxyz-+@") + "\n")
        context = draw.randrange(4)
        diff = "".join(difflib.unified_diff(old, new, "a", "b", n=context))
        if diff:
            assert apply_diff("".join(old), diff) == "".join(new)


@pytest.mark.parametrize(
    ("diff", "sentence"),
    [
        ("", "there is no `@@"),
        ("just text", "there is no `@@"),
        (DIFF.replace(" three", " tree"), "expects 'tree"),
        (DIFF.replace("-1,4", "-2,4").replace("+1,5", "+2,5"), "expects 'one"),
        (DIFF.replace("-1,4", "-9,4"), "begins where"),
        (DIFF.replace("+1,5", "+2,5"), "does not fit the changes before it"),
        (DIFF.replace("+1,5", "+1,6"), "ends before its 4 old and 6 new lines"),
        (DIFF.replace("-1,4", "-1,3"), "is in no hunk|holds other"),
        (DIFF + DIFF, "is in no hunk"),
        (DIFF + "@@ -1 +1 @@\n-one\n+1\n", "begins where the text is already changed"),
        (DIFF.replace(" four", "four"), "ends before"),
        ("@@ -4,2 +4,2 @@\n four\n-x\n+y\n", "more lines than the text has"),
    ],
)
def test_a_diff_that_does_not_fit_is_refused_with_a_sentence(diff, sentence):
    with pytest.raises(ValueError, match=sentence):
        apply_diff(OLD, diff)


def test_a_text_is_compared_without_white_space_at_ends():
    assert same_text("Here:\n```\none \n2\nthree\nfour\nfive\n\n```", NEW).score == 1.0
    assert same_text(NEW.rstrip(), NEW).score == 1.0
    assert same_text(NEW.replace("one", " one"), NEW).score == 0.0
    wrong = same_text(OLD, NEW)
    assert (wrong.score, wrong.reason) == (0.0, "line 2: expected `2`")
    assert same_text("one\n2", NEW).reason == "lines at the end are missing or too many"


def test_a_response_is_right_if_its_diff_produces_the_expected_text():
    assert produces(f"```diff\n{DIFF}```", OLD, NEW).score == 1.0
    assert produces(DIFF, OLD, OLD).score == 0.0
    refused = produces("no diff", OLD, NEW)
    assert (refused.score, refused.answer) == (0.0, "no diff")
    assert "@@" in refused.reason
