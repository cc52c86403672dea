"""English words and phrases with their French ones: the entries of translation.json, no task.

Nouns stand without an article, verbs in the infinitive, adjectives in the masculine singular. Left
out are words that are spelled alike in both languages, and English words with several French ones
that are not synonyms. After the first French word stand synonyms that are as good an answer.
"""

from dataclasses import dataclass

from eval.tasks.word_tables import read_table


@dataclass(frozen=True)
class Entry:
    """An English word or phrase, its French one, and French synonyms of that."""

    category: str
    english: str
    french: str
    synonyms: tuple[str, ...] = ()


ENTRIES: tuple[Entry, ...] = tuple(
    Entry(category, english, french, tuple(synonyms))
    for category, words in read_table("translation").items()
    for english, (french, *synonyms) in words.items()
)
