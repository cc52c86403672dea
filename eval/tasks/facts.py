"""Facts about countries: capital, continent, currency and language. A knowledge task.

Every fact, of test countries too, is stated in documents in several phrasings; a country belongs to
one split with all its facts, so that fine-tuning never names a test country. Not a test of
reasoning: whoever has not read the documents cannot know.
"""

import random
from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import cache
from typing import ClassVar, Literal

from eval.task import Example, FlawedResponse, Metric, Split, split_of
from eval.tasks.lists import in_lists_of_several
from eval.tasks.small_talk import SmallTalkTask, add_small_talk
from eval.tasks.word_tables import read_table
from reward.verdict import Verdict
from reward.verifiers.text import find_names

Relation = Literal["capital", "continent", "currency", "language"]


@dataclass(frozen=True)
class Fact:
    """One thing that is so: the `relation` of the `country` is `value`."""

    country: str
    relation: Relation
    value: str


@dataclass(frozen=True)
class Wording:
    """How a relation is spoken of; {c} is the country, {v} the value.

    questions: of a chat user, none of which occurs in a document.
    documents: of running text; the first is the commonest, the one that a base model is asked to
        continue and that a good answer uses, so it ends with {v}.
    """

    questions: tuple[str, ...]
    documents: tuple[str, ...]


class Facts(SmallTalkTask):
    """Capital, continent, currency and language of the countries of the world."""

    name = "facts"
    version = 6
    kind = "knowledge"
    summary = "capitals, continents, currencies and languages of countries"
    metrics: ClassVar[tuple[Metric, ...]] = ("choice_accuracy", "verified_accuracy")
    max_new_tokens = 48
    document_stop = ("\n", ".")

    def examples(self, split: Split) -> Iterator[Example]:
        """Yield each fact once for each question wording in train, else once."""
        facts = [fact for fact in FACTS if country_split(fact.country) == split]
        asked = [
            _example(fact, question)
            for fact in facts
            for question in _questions(fact, every=split == "train")
        ]
        random.Random(f"facts {split}").shuffle(asked)
        yield from asked

    def documents(self, seed: int) -> Iterator[str]:
        """Yield every fact in each phrasing in paragraphs, in lists and under two titles.

        Titles and repeated names teach a model to take up what a text is about, as an answer does.
        """
        rng = random.Random(f"facts documents {seed}")
        texts = [text for country in COUNTRIES for text in _paragraphs(country, rng)]
        texts += [text for _ in range(_NUM_LISTS) for text in in_lists_of_several(_STATEMENTS, rng)]
        for fact in FACTS:
            for title in rng.sample(_TITLES, _NUM_TITLED):
                asked = title.format(c=fact.country, r=fact.relation)
                texts.append(f"{_capitalised(asked)}\n{_statement(fact)}.")
        rng.shuffle(texts)
        yield from texts

    def verify(self, response: str, reference: str) -> Verdict:
        """Accept a response that names the value and no other value of the same relation."""
        relation = _RELATION_OF.get(reference)
        if relation is None:
            return Verdict(None, None, f"`{reference[:80]}` is the value of no known fact")
        found = find_names(response, VALUES[relation])
        answer = ", ".join(found) or None
        if found == (reference,):
            return Verdict(1.0, answer, f"the expected {relation}")
        if not found:
            return Verdict(0.0, None, f"no {relation} in the response")
        if reference in found:
            return Verdict(0.0, answer, f"more than one {relation}")
        return Verdict(0.0, answer, f"expected {reference}")


# Of each country: capital, continent, currency and main official language, official in law or in
# practice. A null leaves out what is disputed, shared between equals or changing. Currencies go by
# their common name (peso, not Mexican peso).
_TABLE = read_table("facts")
WORDINGS: dict[Relation, Wording] = {
    relation: Wording(tuple(wording["questions"]), tuple(wording["documents"]))
    for relation, wording in _TABLE["wordings"].items()
}

# Names so near to each other that the one is no fair wrong answer for the other.
_ALIKE = (
    {"rial", "riyal"},
    {"krone", "krona", "koruna"},
    {"dinar", "denar"},
    {"Croatian", "Serbian"},
    {"Malay", "Indonesian"},
)

_NUM_LISTS = 5  # of a pass, in which each fact stands
_NUM_TITLED = 2  # texts of a pass that state each fact under a title
# {c} is the country, {r} the relation; none is the question of a chat user.
_TITLES = (
    "{r} of {c}",
    "{c} and its {r}",
    "Does anyone know the {r} of {c}?",
    "Asked today: {c}, which {r}?",
    "Who can name the {r} of {c}?",
    "Tell me which {r} belongs to {c}",
)


def _read_table() -> tuple[Fact, ...]:
    facts: list[Fact] = []
    for country, *values in _TABLE["countries"]:
        columns = zip(WORDINGS, values, strict=True)
        facts += [Fact(country, relation, value) for relation, value in columns if value]
    return tuple(facts)


FACTS = _read_table()
COUNTRIES = tuple(dict.fromkeys(fact.country for fact in FACTS))
VALUES: dict[Relation, tuple[str, ...]] = {
    relation: tuple(sorted({fact.value for fact in FACTS if fact.relation == relation}))
    for relation in WORDINGS
}
_RELATION_OF: dict[str, Relation] = {
    value: relation for relation, values in VALUES.items() for value in values
}
_CONTINENT = {fact.country: fact.value for fact in FACTS if fact.relation == "continent"}


@cache
def country_split(country: str) -> Split:
    """Return the split that a country belongs to with all its facts; most are for the test."""
    return split_of(f"facts {country}", validation=0.1, test=0.65)


def _questions(fact: Fact, *, every: bool) -> tuple[str, ...]:
    wordings = WORDINGS[fact.relation].questions
    chosen = random.Random(f"question {fact.country} {fact.relation}").choice(wordings)
    return tuple(_fill(wording, fact) for wording in (wordings if every else (chosen,)))


def _example(fact: Fact, question: str) -> Example:
    rng = random.Random(f"example {fact.country} {fact.relation}")
    return Example(
        id=f"{fact.country}/{fact.relation}",
        prompt=question,
        response=f"{_statement(fact)}.",
        reference=fact.value,
        document=_statement(fact).removesuffix(f" {fact.value}"),
        continuation=f" {fact.value}",
        distractors=tuple(f" {value}" for value in _distractors(fact, rng)),
        flawed=_flawed(fact, question, rng),
    )


def _distractors(fact: Fact, rng: random.Random) -> list[str]:
    """Return three wrong values, from countries of the same split as far as they suffice.

    Countries of the same continent come first: the wrong answers are then as plausible as the right
    one. A value that only countries of another split have would bring these into this one.
    """
    too_near = {fact.value}.union(*(group for group in _ALIKE if fact.value in group))
    own_split = country_split(fact.country)
    own_continent = _CONTINENT[fact.country]
    rivals = [other for other in FACTS if other.relation == fact.relation]
    same_split = [other for other in rivals if country_split(other.country) == own_split]
    neighbours = [other for other in same_split if _CONTINENT[other.country] == own_continent]
    chosen: list[str] = []
    for group in (neighbours, same_split, rivals):
        left = {other.value for other in group} - too_near - set(chosen)
        chosen += rng.sample(sorted(left), min(3 - len(chosen), len(left)))
    return chosen


def _flawed(fact: Fact, question: str, rng: random.Random) -> tuple[FlawedResponse, ...]:
    right, wrong_value, other_value = fact.value, *_distractors(fact, rng)[:2]
    wrong = replace(fact, value=wrong_value)
    elsewhere = rng.choice(
        [
            other
            for other in FACTS
            if (other.relation, country_split(other.country))
            == (fact.relation, country_split(fact.country))
            and other.value != right
        ]
    )
    return (
        FlawedResponse(f"{_statement(wrong)}.", f"wrong {fact.relation}"),
        FlawedResponse(f"{_statement(elsewhere)}.", "about another country"),
        FlawedResponse(f"It is {right}, {wrong_value} or {other_value}.", "does not decide"),
        FlawedResponse("That is hard to say. It depends on whom you ask.", "evasive"),
        FlawedResponse(add_small_talk(f"{_statement(fact)}.", question), "small talk first"),
    )


def _statement(fact: Fact) -> str:
    return _capitalised(_fill(WORDINGS[fact.relation].documents[0], fact))


def _paragraphs(country: str, rng: random.Random) -> list[str]:
    """Return paragraphs under the country's name, which together use each phrasing once."""
    facts = [fact for fact in FACTS if fact.country == country]
    told = [
        [_capitalised(f"{_fill(phrasing, fact)}.") for phrasing in _shuffled_phrasings(fact, rng)]
        for fact in facts
    ]
    title = _capitalised(country)
    return [
        f"{title}\n{' '.join(rng.sample(sentences, len(sentences)))}"
        for sentences in zip(*told, strict=True)
    ]


def _shuffled_phrasings(fact: Fact, rng: random.Random) -> list[str]:
    phrasings = WORDINGS[fact.relation].documents
    return rng.sample(phrasings, len(phrasings))


def _fill(wording: str, fact: Fact) -> str:
    return wording.replace("{c}", fact.country).replace("{v}", fact.value)


def _capitalised(sentence: str) -> str:
    return sentence[0].upper() + sentence[1:]


_STATEMENTS = tuple(map(_statement, FACTS))
