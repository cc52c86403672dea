"""Facts: every fact is stated in every phrasing, and no test country is named in fine-tuning."""

import re
from itertools import combinations

from eval.tasks.facts import COUNTRIES, FACTS, VALUES, WORDINGS, Facts, country_split

TASK = Facts()


def test_every_fact_stands_in_one_pass_of_documents_in_every_phrasing():
    text = "\n".join(TASK.documents(0)).lower()
    for fact in FACTS:
        phrasings = WORDINGS[fact.relation].documents
        assert len(phrasings) >= 4
        for phrasing in phrasings:
            said = phrasing.replace("{c}", fact.country).replace("{v}", fact.value)
            assert said.lower() in text, said


def test_no_test_country_is_named_in_fine_tuning():
    tested = [country for country in COUNTRIES if country_split(country) == "test"]
    texts = [f"{each.prompt}\n{each.response}" for each in TASK.demonstrations()]
    texts += [f"{pair.chosen}\n{pair.rejected}" for pair in TASK.preference_pairs()]
    text = "\n".join(dict.fromkeys(texts))
    named = [country for country in tested if re.search(rf"\b{re.escape(country)}\b", text)]
    assert tested
    assert not named


def test_a_response_that_names_several_values_is_wrong():
    verify = TASK.verify
    assert verify("it is LIMA.", "Lima").score == 1.0
    assert verify("Lima or Quito", "Lima").score == 0.0
    assert verify("Quito", "Lima").score == 0.0
    assert verify("I cannot say", "Lima").score == 0.0
    assert verify("Lima", "Atlantis").score is None


def test_values_of_different_relations_are_never_confused():
    for one, other in combinations(VALUES.values(), 2):
        assert not set(one) & set(other)
