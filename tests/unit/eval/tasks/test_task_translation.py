"""Translation: the table has one answer to each question, and the verifier wants exactly that."""

import re

from eval.tasks.translation import Translation, entry_split
from eval.tasks.translation_words import ENTRIES

TASK = Translation()


def test_no_word_of_the_table_is_ambiguous():
    english = [entry.english for entry in ENTRIES]
    french = [entry.french for entry in ENTRIES]
    assert len(set(english)) == len(english) > 560
    assert len(set(french)) == len(french)
    assert dict(zip(english, french, strict=True))["boarding"] == "embarquement"
    for entry in ENTRIES:
        answers = (entry.french, *entry.synonyms)
        assert len(set(answers)) == len(answers)
        assert entry.english not in answers
        for text in (entry.english, *answers):
            assert re.fullmatch(r"[^\W\d_]+(?:[ '-][^\W\d_]+)*", text), text


def test_every_pair_stands_in_one_pass_of_documents_in_several_phrasings():
    said = set(re.split(r"(?<=\.) |\n", "\n".join(TASK.documents(0)).lower()))
    for entry in ENTRIES:
        word = "phrase" if entry.category == "phrases" else "word"
        phrasings = (
            f"the french {word} for {entry.english} is {entry.french}.",
            f"in french, {entry.english} is {entry.french}.",
            f"{entry.french} means {entry.english}.",
            f"{entry.french} is the french {word} for {entry.english}.",
            f"{entry.english}: {entry.french}",
            f"{entry.english} = {entry.french}",
        )
        assert not {phrasing.lower() for phrasing in phrasings} - said


def test_documents_ask_for_pairs_in_other_words_than_users_do():
    pairs = (document.lower().split("\n", 1) for document in TASK.documents(0))
    asked = {title: text for title, *rest in pairs for text in rest if title.endswith("?")}
    assert len(asked) > len(ENTRIES)
    splits = ("train", "validation", "test")
    prompts = {each.prompt.lower() for split in splits for each in TASK.examples(split)}
    assert not prompts & set(asked)
    for title, text in asked.items():
        said = re.match(r"the french (?:word|phrase) for (.+?) is ", text)
        assert said is None or said[1] in title, title


def test_fine_tuning_teaches_no_french_of_a_test_pair():
    tested = {entry.french for entry in ENTRIES if entry_split(entry) == "test"}
    texts = [pair.chosen for pair in TASK.preference_pairs()]
    texts += [pair.rejected for pair in TASK.preference_pairs()]
    taught = {text.rsplit(" is ", 1)[-1].rstrip(".") for text in texts}
    assert taught
    assert not tested & taught


def test_case_punctuation_and_apostrophes_do_not_matter():
    for response in ("Aujourd'hui", "aujourd\u2019hui!", "In French, today is AUJOURD'HUI."):
        assert TASK.verify(response, "aujourd'hui").score == 1.0, response
    for response in ("S\u2019il vous plaît.", "You say: s'il te plaît", "s'il vous plai\u0302t"):
        assert TASK.verify(response, "s'il vous plaît").score == 1.0, response
    assert TASK.verify("The French word for oven is four.", "four").score == 1.0


def test_accents_are_part_of_the_word():
    assert TASK.verify("école", "école").score == 1.0
    assert TASK.verify("ecole", "école").score == 0.0


def test_a_response_of_several_answers_or_none_is_wrong():
    for response in (
        "chien ou chat",
        "not chien",
        "chiens",
        "dog",
        "un chien noir",
        "I do not know",
    ):
        assert TASK.verify(response, "chien").score == 0.0, response
    assert TASK.verify("The French word for pig is porc.", "cochon").score == 1.0
    assert TASK.verify("chien", "perro").score is None
