"""Mutations of the page on which people label, and of what it keeps."""

from __future__ import annotations

from tests.mutations.mutation import Mutation

_PAIRS = ("tests/unit/feedback/test_pairs_to_label.py",)
_RECORD = ("tests/unit/feedback/test_label_record.py",)
_CALLS = ("tests/unit/feedback/test_label_page_calls.py",)
_SUMMARY = ("tests/unit/feedback/test_label_summary.py",)
_BROWSER = ("tests/browser/test_labelling_in_chromium.py",)

FEEDBACK = [
    Mutation(
        "labels: every prompt comes once before any comes twice",
        "pipeline/feedback/pairs.py",
        "    drawing = [pool.draw() for pool in able]",
        "    drawing = [pool.draw() for pool in able[:1]]",
        _PAIRS,
    ),
    Mutation(
        "labels: which response stands first is drawn",
        "pipeline/feedback/showings.py",
        'is_turned = int(digest(f"{seed}:{self.pair.key}")[:8], 16) % 2',
        "is_turned = 0",
        _PAIRS,
    ),
    Mutation(
        "labels: the second time the responses stand the other way round",
        "pipeline/feedback/showings.py",
        "return (b, a) if a.text == first_text else (a, b)",
        "return (a, b) if a.text == first_text else (b, a)",
        _CALLS,
    ),
    Mutation(
        "labels: a decision that was half written when the process was killed is not one",
        "pipeline/feedback/record.py",
        "        os.ftruncate(descriptor, whole)",
        "        pass",
        _RECORD,
    ),
    Mutation(
        "labels: a preference that a killed process had not written follows",
        "pipeline/feedback/record.py",
        "known, hint)\n    write_whole(preferences, expected.decode())",
        "known, hint)",
        _RECORD,
    ),
    Mutation(
        "labels: preferences that others changed are not written over",
        "pipeline/feedback/record.py",
        "    if not is_behind and not is_ahead:",
        "    if False:",
        _RECORD,
    ),
    Mutation(
        "labels: one process writes at a time",
        "pipeline/feedback/record.py",
        "    if not try_lock(descriptor, log):",
        "    if False:",
        _RECORD,
    ),
    Mutation(
        "labels: a late tab changes nothing",
        "pipeline/feedback/session.py",
        "if showing is None or showing.name != name:",
        "if showing is None:",
        _CALLS,
    ),
    Mutation(
        "labels: the page is not told where a response is from",
        "pipeline/feedback/session.py",
        '            "first": first.text,',
        '            "first": first.text, "source": first.source,',
        _CALLS,
    ),
    Mutation(
        "labels: a pair that comes a second time is not learnt from twice",
        "pipeline/feedback/decisions.py",
        "return self.chosen is not None and self.showing == 1",
        "return self.chosen is not None",
        _RECORD,
    ),
    Mutation(
        "labels: to agree with oneself is to prefer a response, not a place",
        "pipeline/feedback/summary.py",
        "    low = text_of(decision.chosen) < text_of(decision.rejected)",
        '    low = decision.verdict == "first"',
        _SUMMARY,
    ),
    Mutation(
        "labels: a key that is held decides nothing",
        "pipeline/feedback/page.html",
        "event.altKey || event.repeat",
        "event.altKey",
        _BROWSER,
    ),
]
