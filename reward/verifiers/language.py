"""Is a response in a given language? Told by langdetect (Shuyo 2010), with a seed of its own.

55 languages by their ISO 639-1 codes, Chinese as `zh-cn` and `zh-tw`; of a few words the answer is
a guess. What langdetect draws at random is the same here in every process and on every machine.
"""

from functools import cache, lru_cache
from importlib.resources import files
from typing import Any

from reward.verdict import Verdict

_READ = 50_000  # characters; langdetect reads 10,000 of what is left without links and addresses


def language(response: str, reference: str) -> Verdict:
    """Compare the language of the response with a code, as `de`; `zh` is any Chinese.

    A text without letters is in none and scores 0.0; a code that is not known is not graded.
    """
    wanted = reference.strip().lower()
    known_codes = {*language_codes(), "zh"}
    if wanted not in known_codes:
        known = ", ".join(sorted(known_codes))
        return Verdict(None, None, f"`{reference[:20]}` is no language that is known: {known}")
    found = detect_language(response)
    if found is None:
        return Verdict(0.0, None, "there are no words to tell a language from")
    if found == wanted or found.startswith(f"{wanted}-"):
        return Verdict(1.0, found, f"in `{found}`")
    return Verdict(0.0, found, f"in `{found}` instead of `{wanted}`")


@cache
def language_codes() -> tuple[str, ...]:
    """Return the codes of the languages that can be told apart, in order."""
    return tuple(sorted(each.name for each in (files("langdetect") / "profiles").iterdir()))


@lru_cache(maxsize=256)
def detect_language(text: str) -> str | None:
    """Return the code of the language that a text most likely is in; None without any words.

    Words in capitals say nothing: a text of nothing else has no language.
    """
    if not text.strip():
        return None
    from langdetect import LangDetectException  # pyright: ignore[reportMissingTypeStubs]

    detector = _factory().create()
    detector.append(text[:_READ])
    try:
        return detector.detect()
    except LangDetectException:
        return None


@cache
def _factory() -> Any:
    """Return langdetect's profiles, read in an order that does not depend on the file system."""
    from langdetect import DetectorFactory  # pyright: ignore[reportMissingTypeStubs]

    factory: Any = DetectorFactory()
    folder = files("langdetect") / "profiles"
    factory.load_json_profile([(folder / code).read_text("utf-8") for code in language_codes()])
    factory.set_seed(0)
    return factory
