import pytest

from pipeline.data.reading.words import signs_of, words_of


def test_words_are_the_same_however_a_text_is_wrapped_and_written():
    plain = words_of("the quick brown fox it s 3 years old")
    assert words_of("The QUICK  brown\nfox: it's\n\n  **3** years_old!") == plain
    assert words_of("\ufb01ne na\u00efve caf\u00e9") == words_of("FINE NAI\u0308VE cafe\u0301")


def test_what_cannot_be_seen_parts_no_word():
    assert words_of("exam\u00adple te\u200bst \ufeffnow") == ["example", "test", "now"]


def test_each_character_is_a_word_where_words_are_not_parted():
    assert words_of("\u6211\u4eec\u7684AI test") == ["\u6211", "\u4eec", "\u7684", "ai", "test"]
    assert len(words_of("\u0e20\u0e32\u0e29\u0e32\u0e44\u0e17\u0e22")) == 7


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("What is 3 + 4?", "What is 3 - 4?"),
        ("-5", "5 > 4"),
        ("x < 0", "x > 0"),
        ("(a or b) and c", "a or (b and c)"),
    ],
)
def test_signs_tell_short_texts_apart_that_have_the_same_words(one: str, other: str):
    assert signs_of(one) != signs_of(other)


def test_punctuation_and_case_tell_no_short_texts_apart():
    assert signs_of("- What's  3 + 4 ?") == signs_of("what's 3 + 4")
