"""Verifiers of language, repetition and form, and the rewards made of them that a recipe names."""

import time

import pytest

from reward import shaping
from reward.verifiers.form import form, repetition
from reward.verifiers.language import detect_language, language

GERMAN = "Das Wetter in Berlin ist heute sch\u00f6n, und morgen wird es regnen."
ENGLISH = "The weather in London is fine today, and tomorrow it will rain."


def test_a_text_is_in_one_language_and_in_no_other() -> None:
    assert language(GERMAN, "de").score == 1.0
    assert language(ENGLISH, " EN ").score == 1.0
    verdict = language(ENGLISH, "de")
    assert (verdict.score, verdict.answer) == (0.0, "en")
    assert (
        language(
            "\u4eca\u5929\u5929\u6c14\u5f88\u597d\uff0c\u6211\u4eec\u53bb\u516c\u56ed", "zh"
        ).score
        == 1.0
    )
    assert language("42 !", "en").score == 0.0


def test_a_language_that_is_not_known_is_not_graded() -> None:
    verdict = language(ENGLISH, "klingon")
    assert verdict.score is None
    assert "de, el, en" in verdict.reason


def test_languages_are_told_alike_again_and_of_long_texts_at_once() -> None:
    unclear = "no information de la casa per la nota"
    told = {(detect_language.cache_clear(), detect_language(unclear))[1] for _ in range(5)}
    assert len(told) == 1
    started_s = time.process_time()
    detect_language("a@" * 1_000_000)
    assert time.process_time() - started_s < 3.0


def test_a_text_that_says_the_same_again_is_too_repetitive() -> None:
    verdict = repetition("so it is so it is so it is", words=2)
    assert (verdict.score, verdict.reason) == (0.0, "62% of runs of 2 words stood before")
    assert repetition("so it is so it is so it is", words=2, at_most=0.7).score == 1.0
    assert repetition("so it is", words=4).score == 1.0
    assert repetition("", words=1).score == 1.0
    with pytest.raises(ValueError, match="a run of 0 words"):
        repetition("so", words=0)


def test_all_of_a_text_has_the_form_of_a_pattern() -> None:
    assert form(" <a>\n1</a> ", r"<a>.*</a>").score == 1.0
    assert form("x <a>1</a>", r"<a>.*</a>").score == 0.0
    assert form("ab", r"a|ab").score == 1.0
    assert form("a", r"(a").score is None


def test_a_pattern_that_backtracks_forever_is_stopped_and_not_graded() -> None:
    assert form("a" * 50 + "c", r"(a+)+b").score is None
    assert shaping.format_reward(r"(a+)+b")(completions=["a" * 50 + "c", "aab"]) == [None, 1.0]


def test_rewards_for_a_language_that_is_fixed_or_stands_in_a_column() -> None:
    assert shaping.english(completions=[ENGLISH, GERMAN], prompts=["", ""]) == [1.0, 0.0]
    chat = [[{"role": "assistant", "content": GERMAN}]] * 2
    assert shaping.language(completions=chat, language=["de", "fr"]) == [1.0, 0.0]
    with pytest.raises(ValueError, match="`klingon` is no language"):
        shaping.language_reward("klingon")
