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
from eval.tasks.small_talk import SmallTalkTask, chatty
from reward.verdict import Verdict
from reward.verifiers.text import named

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
    version = 2
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
        """Yield every fact in each phrasing in paragraphs, then in a list, bare and under a title.

        Titles and repeated names teach a model to take up what a text is about, as an answer does.
        """
        rng = random.Random(f"facts documents {seed}")
        texts = [text for country in COUNTRIES for text in _paragraphs(country, rng)]
        for relation in WORDINGS:
            texts += _lists(relation, rng)
        for fact in FACTS:
            title = f"{fact.relation.capitalize()} of {fact.country}"
            texts += [f"{_statement(fact)}.", f"{title}\n{_statement(fact)}."]
        rng.shuffle(texts)
        yield from texts

    def verify(self, response: str, reference: str) -> Verdict:
        """Accept a response that names the value and no other value of the same relation."""
        relation = _RELATION_OF.get(reference)
        if relation is None:
            return Verdict(None, None, f"`{reference[:80]}` is the value of no known fact")
        found = named(response, VALUES[relation])
        answer = ", ".join(found) or None
        if found == (reference,):
            return Verdict(1.0, answer, f"the expected {relation}")
        if not found:
            return Verdict(0.0, None, f"no {relation} in the response")
        if reference in found:
            return Verdict(0.0, answer, f"more than one {relation}")
        return Verdict(0.0, answer, f"expected {reference}")


WORDINGS: dict[Relation, Wording] = {
    "capital": Wording(
        (
            "What is the capital of {c}?",
            "Which city is the capital of {c}?",
            "Name the capital of {c}.",
        ),
        (
            "the capital of {c} is {v}",
            "the capital city of {c} is {v}",
            "the capital of {c} is the city of {v}",
            "{v} is the capital of {c}",
        ),
    ),
    "continent": Wording(
        (
            "On which continent is {c}?",
            "Which continent does {c} belong to?",
            "Name the continent of {c}.",
        ),
        (
            "the continent of {c} is {v}",
            "{c} is in {v}",
            "{c} lies in {v}",
            "{v} is the continent of {c}",
        ),
    ),
    "currency": Wording(
        (
            "What is the currency of {c}?",
            "Which currency is used in {c}?",
            "Name the currency of {c}.",
        ),
        (
            "the currency of {c} is the {v}",
            "the money of {c} is the {v}",
            "people in {c} pay with the {v}",
            "the {v} is the currency of {c}",
        ),
    ),
    "language": Wording(
        (
            "What is the main official language of {c}?",
            "Which language is the main official one in {c}?",
            "Name the main official language of {c}.",
        ),
        (
            "the main official language of {c} is {v}",
            "the language of {c} is {v}",
            "officials in {c} speak {v}",
            "{v} is the main official language of {c}",
        ),
    ),
}

# country | capital | continent | currency | main official language, official in law or in practice.
# A dash leaves out what is disputed, shared between equals or changing. Currencies go by their
# common name (peso, not Mexican peso).
_TABLE = """\
Albania|Tirana|Europe|lek|Albanian
Algeria|Algiers|Africa|dinar|Arabic
Angola|Luanda|Africa|kwanza|Portuguese
Argentina|Buenos Aires|South America|peso|Spanish
Australia|Canberra|Oceania|dollar|English
Austria|Vienna|Europe|euro|German
the Bahamas|Nassau|North America|dollar|English
Bangladesh|Dhaka|Asia|taka|Bengali
Belgium|Brussels|Europe|euro|-
Botswana|Gaborone|Africa|pula|English
Brazil|Brasilia|South America|real|Portuguese
Bulgaria|Sofia|Europe|-|Bulgarian
Cambodia|Phnom Penh|Asia|riel|Khmer
Canada|Ottawa|North America|dollar|-
Chile|Santiago|South America|peso|Spanish
China|Beijing|Asia|yuan|Mandarin
Colombia|Bogota|South America|peso|Spanish
Costa Rica|San Jose|North America|colon|Spanish
Croatia|Zagreb|Europe|euro|Croatian
Cuba|Havana|North America|peso|Spanish
Czechia|Prague|Europe|koruna|Czech
Denmark|Copenhagen|Europe|krone|Danish
the Dominican Republic|Santo Domingo|North America|peso|Spanish
Ecuador|Quito|South America|dollar|Spanish
Egypt|Cairo|Africa|pound|Arabic
El Salvador|San Salvador|North America|dollar|Spanish
Estonia|Tallinn|Europe|euro|Estonian
Finland|Helsinki|Europe|euro|Finnish
France|Paris|Europe|euro|French
Germany|Berlin|Europe|euro|German
Ghana|Accra|Africa|cedi|English
Greece|Athens|Europe|euro|Greek
Guatemala|Guatemala City|North America|quetzal|Spanish
Honduras|Tegucigalpa|North America|lempira|Spanish
Hungary|Budapest|Europe|forint|Hungarian
Iceland|Reykjavik|Europe|krona|Icelandic
India|New Delhi|Asia|rupee|Hindi
Indonesia|-|Asia|rupiah|Indonesian
Iran|Tehran|Asia|rial|Persian
Iraq|Baghdad|Asia|dinar|Arabic
Ireland|Dublin|Europe|euro|-
Italy|Rome|Europe|euro|Italian
Jamaica|Kingston|North America|dollar|English
Japan|Tokyo|Asia|yen|Japanese
Jordan|Amman|Asia|dinar|Arabic
Kenya|Nairobi|Africa|shilling|-
Laos|Vientiane|Asia|kip|Lao
Latvia|Riga|Europe|euro|Latvian
Lebanon|Beirut|Asia|pound|Arabic
Liberia|Monrovia|Africa|dollar|English
Libya|Tripoli|Africa|dinar|Arabic
Lithuania|Vilnius|Europe|euro|Lithuanian
Madagascar|Antananarivo|Africa|ariary|Malagasy
Malaysia|Kuala Lumpur|Asia|ringgit|Malay
Mauritania|Nouakchott|Africa|ouguiya|Arabic
Mexico|Mexico City|North America|peso|Spanish
Moldova|Chisinau|Europe|leu|Romanian
Mongolia|Ulaanbaatar|Asia|tugrik|Mongolian
Morocco|Rabat|Africa|dirham|Arabic
Mozambique|Maputo|Africa|metical|Portuguese
Myanmar|Naypyidaw|Asia|kyat|Burmese
Namibia|Windhoek|Africa|dollar|English
Nepal|Kathmandu|Asia|rupee|Nepali
the Netherlands|Amsterdam|Europe|euro|Dutch
New Zealand|Wellington|Oceania|dollar|English
Nicaragua|Managua|North America|cordoba|Spanish
Nigeria|Abuja|Africa|naira|English
North Korea|Pyongyang|Asia|won|Korean
North Macedonia|Skopje|Europe|denar|Macedonian
Norway|Oslo|Europe|krone|Norwegian
Oman|Muscat|Asia|rial|Arabic
Pakistan|Islamabad|Asia|rupee|-
Papua New Guinea|Port Moresby|Oceania|kina|-
Peru|Lima|South America|sol|Spanish
the Philippines|Manila|Asia|peso|-
Poland|Warsaw|Europe|zloty|Polish
Portugal|Lisbon|Europe|euro|Portuguese
Qatar|Doha|Asia|riyal|Arabic
Romania|Bucharest|Europe|leu|Romanian
Rwanda|Kigali|Africa|franc|Kinyarwanda
Saudi Arabia|Riyadh|Asia|riyal|Arabic
Senegal|Dakar|Africa|franc|French
Serbia|Belgrade|Europe|dinar|Serbian
Sierra Leone|Freetown|Africa|leone|English
Slovakia|Bratislava|Europe|euro|Slovak
Slovenia|Ljubljana|Europe|euro|Slovene
Somalia|Mogadishu|Africa|shilling|Somali
South Korea|Seoul|Asia|won|Korean
Spain|Madrid|Europe|euro|Spanish
Sudan|Khartoum|Africa|pound|Arabic
Suriname|Paramaribo|South America|dollar|Dutch
Sweden|Stockholm|Europe|krona|Swedish
Syria|Damascus|Asia|pound|Arabic
Tanzania|Dodoma|Africa|shilling|Swahili
Thailand|Bangkok|Asia|baht|Thai
Tunisia|Tunis|Africa|dinar|Arabic
Uganda|Kampala|Africa|shilling|English
Ukraine|Kyiv|Europe|hryvnia|Ukrainian
the United Kingdom|London|Europe|pound|English
the United States|Washington|North America|dollar|English
Uruguay|Montevideo|South America|peso|Spanish
Venezuela|Caracas|South America|bolivar|Spanish
Vietnam|Hanoi|Asia|dong|Vietnamese
Zambia|Lusaka|Africa|kwacha|English"""

# Names so near to each other that the one is no fair wrong answer for the other.
_ALIKE = (
    {"rial", "riyal"},
    {"krone", "krona", "koruna"},
    {"dinar", "denar"},
    {"Croatian", "Serbian"},
    {"Malay", "Indonesian"},
)


def _read_table() -> tuple[Fact, ...]:
    facts: list[Fact] = []
    for row in _TABLE.split("\n"):
        country, *values = row.split("|")
        columns = zip(WORDINGS, values, strict=True)
        facts += [Fact(country, relation, value) for relation, value in columns if value != "-"]
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
        FlawedResponse(chatty(f"{_statement(fact)}.", question), "small talk first"),
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


def _lists(relation: Relation, rng: random.Random) -> list[str]:
    """Return the relation's facts in lists of four to eight lines."""
    lines = [_statement(fact) for fact in FACTS if fact.relation == relation]
    rng.shuffle(lines)
    lists: list[str] = []
    while lines:
        size = rng.randint(4, 8)
        lists.append("\n".join(lines[:size]))
        lines = lines[size:]
    return lists


def _fill(wording: str, fact: Fact) -> str:
    return wording.replace("{c}", fact.country).replace("{v}", fact.value)


def _capitalised(sentence: str) -> str:
    return sentence[0].upper() + sentence[1:]
