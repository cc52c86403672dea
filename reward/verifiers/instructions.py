"""Does a response follow instructions that a program can check? Those of IFEval, by their ids.

All 25 of the published checks (Zhou et al. 2023, github.com/google-research/google-research in
instruction_following_eval), strict and loose, with these differences: sentences are counted by
rules instead of NLTK's tables (sentences.py says which); the language is told with a fixed seed;
keywords and marks are taken literally where a regular expression was allowed; and arguments that
are missing are an error instead of drawn at random.
"""

import json
import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from reward.verdict import Verdict
from reward.verifiers.language import detect_language, language_codes
from reward.verifiers.sentences import count_sentences, count_words_in_capitals

Arguments = Mapping[str, Any]
Check = Callable[[str, Arguments], bool]

_RELATIONS = ("less than", "at least")
_ANSWERS = ("My answer is yes.", "My answer is no.", "My answer is maybe.")
_WORD = re.compile(r"\w+")
_FENCES = ("```json", "```Json", "```JSON", "```")


class CannotCheck(ValueError):
    """Instructions that are none: an id that is not known, or arguments that it does not take."""


def instructions(response: str, reference: str, *, loose: bool = False) -> Verdict:
    """Check every instruction: 1.0 if all are followed, else 0.0, and the reason names the rest.

    reference, loose: as `follow_instructions` has them. What cannot be graded scores None.
    """
    try:
        followed = follow_instructions(response, reference, loose=loose)
    except CannotCheck as error:
        return Verdict(None, None, str(error))
    failed = [name for name, is_followed in followed if not is_followed]
    if failed:
        return Verdict(0.0, None, f"not followed: {', '.join(failed)}")
    return Verdict(1.0, None, "every instruction is followed")


def follow_instructions(
    response: str, reference: str, *, loose: bool = False
) -> list[tuple[str, bool]]:
    """Return each instruction's id and whether the response follows it; an empty one follows none.

    reference: JSON text, a list of [id, arguments], `[["punctuation:no_comma", {}]]`.
    loose: also of the response without its first line, its last line, or both, and of each of these
        without asterisks: one that follows is enough.
    Raises CannotCheck.
    """
    readings = [each for each in _readings(response, loose=loose) if each.strip()]
    followed: list[tuple[str, bool]] = []
    for name, arguments in _read(reference):
        check = CHECKS.get(name)
        if check is None:
            raise CannotCheck(f"the instruction `{name}` cannot be checked here")
        try:
            check("", arguments)  # says what is wrong with the arguments, of any response
            followed.append((name, any(check(each, arguments) for each in readings)))
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise CannotCheck(f"`{name}` is given {arguments}: {error!r}"[:200]) from error
    return followed


def _read(reference: str) -> list[tuple[str, Arguments]]:
    try:
        given: list[tuple[str, Arguments]] = [
            (str(name), dict(arguments)) for name, arguments in json.loads(reference)
        ]
    except (ValueError, TypeError) as error:
        raise CannotCheck(f"the reference is no list of instructions: {error}") from error
    if not given:
        raise CannotCheck("there are no instructions")
    return given


def _readings(response: str, *, loose: bool) -> Sequence[str]:
    """Return the texts of which one has to follow an instruction."""
    if not loose:
        return (response,)
    lines = response.split("\n")
    kept = [response, *("\n".join(part).strip() for part in (lines[1:], lines[:-1], lines[1:-1]))]
    return list(dict.fromkeys([*kept, *(each.replace("*", "") for each in kept)]))


def _compared(count: int, relation: str, bound: int) -> bool:
    if relation not in _RELATIONS or isinstance(bound, str):
        raise ValueError(f"`{relation}` {bound}")
    return count < bound if relation == _RELATIONS[0] else count >= bound


def _has_keywords(response: str, arguments: Arguments) -> bool:
    lowered = response.lower()
    return all(str(word).lower() in lowered for word in arguments["keywords"])


def _keyword_frequency(response: str, arguments: Arguments) -> bool:
    count = response.lower().count(arguments["keyword"].strip().lower())
    return _compared(count, arguments["relation"], arguments["frequency"])


def _has_no_forbidden_words(response: str, arguments: Arguments) -> bool:
    return not any(
        re.search(rf"\b{re.escape(word)}\b", response, re.IGNORECASE)
        for word in arguments["forbidden_words"]
    )


def _letter_frequency(response: str, arguments: Arguments) -> bool:
    count = response.lower().count(arguments["letter"].strip().lower())
    return _compared(count, arguments["let_relation"], arguments["let_frequency"])


def _number_of_words(response: str, arguments: Arguments) -> bool:
    count = len(_WORD.findall(response))
    return _compared(count, arguments["relation"], arguments["num_words"])


def _number_of_sentences(response: str, arguments: Arguments) -> bool:
    return _compared(count_sentences(response), arguments["relation"], arguments["num_sentences"])


def _number_of_paragraphs(response: str, arguments: Arguments) -> bool:
    """Whether there are as many paragraphs, divided by `***`; none between two may be empty."""
    paragraphs = [bool(part.strip()) for part in re.split(r"\s?\*\*\*\s?", response)]
    if not all(paragraphs[1:-1]):
        return False
    return sum(paragraphs) == arguments["num_paragraphs"]


def _first_word_of_paragraph(response: str, arguments: Arguments) -> bool:
    """Whether there are as many paragraphs, and the n-th one begins with a word."""
    paragraphs = response.split("\n\n")
    count, nth = sum(bool(part.strip()) for part in paragraphs), int(arguments["nth_paragraph"])
    if nth > count or not paragraphs[nth - 1].strip():
        return False
    first = paragraphs[nth - 1].split()[0].lstrip("'").lstrip('"')
    word = re.split(r"[.,?!'\"]", first)[0].lower()
    return count == arguments["num_paragraphs"] and word == arguments["first_word"].lower()


def _number_of_placeholders(response: str, arguments: Arguments) -> bool:
    count = 0
    for line in response.split("\n"):
        end = -1  # not by a pattern: each of many open brackets would cost a pass over the line
        while (start := line.find("[", end + 1)) >= 0 and (end := line.find("]", start)) >= 0:
            count += 1
    return count >= arguments["num_placeholders"]


def _has_postscript(response: str, arguments: Arguments) -> bool:
    marker = str(arguments["postscript_marker"]).strip()
    patterns = {"P.P.S": r"p\.\s?p\.\s?s", "P.S.": r"p\.\s?s\."}
    return bool(re.search(patterns.get(marker, re.escape(marker.lower())), response.lower()))


def _number_of_bullets(response: str, arguments: Arguments) -> bool:
    stars = re.findall(r"^[^\S\n]*\*[^\*].*$", response, re.MULTILINE)
    dashes = re.findall(r"^[^\S\n]*-.*$", response, re.MULTILINE)
    return len(stars) + len(dashes) == arguments["num_bullets"]


def _is_constrained(response: str, _: Arguments) -> bool:
    return any(answer in response for answer in _ANSWERS)


def _number_of_highlights(response: str, arguments: Arguments) -> bool:
    single = re.findall(r"\*[^\n\*]*\*", response)
    double = re.findall(r"\*\*[^\n\*]*\*\*", response)
    count = sum(bool(each.strip("*").strip()) for each in (*single, *double))
    return count >= arguments["num_highlights"]


def _number_of_sections(response: str, arguments: Arguments) -> bool:
    mark = re.escape(arguments["section_spliter"].strip())
    return len(re.findall(rf"\s?{mark}\s?\d+\s?", response)) >= arguments["num_sections"]


def _is_json(response: str, _: Arguments) -> bool:
    text = response.strip()
    for fence in _FENCES:
        text = text.removeprefix(fence)
    try:
        json.loads(text.removesuffix("```").strip())
    except (ValueError, RecursionError):
        return False
    return True


def _has_title(response: str, _: Arguments) -> bool:
    for line in response.split("\n"):
        start, end = line.find("<<"), line.rfind(">>")
        if 0 <= start < end - 2 and line[start:end].lstrip("<").rstrip(">").strip():
            return True
    return False


def _is_two_responses(response: str, _: Arguments) -> bool:
    parts = [part.strip() for part in response.split("******")]
    if not all(parts[1:-1]):
        return False
    said = [part for part in parts if part]
    return len(said) == 2 and said[0] != said[1]


def _repeats_prompt(response: str, arguments: Arguments) -> bool:
    wanted = arguments["prompt_to_repeat"].strip().lower()
    return response.strip().lower().startswith(wanted)


def _ends_with(response: str, arguments: Arguments) -> bool:
    return response.strip().strip('"').lower().endswith(arguments["end_phrase"].strip().lower())


def _words_in_capitals(response: str, arguments: Arguments) -> bool:
    count = count_words_in_capitals(response)
    return _compared(count, arguments["capital_relation"], arguments["capital_frequency"])


def _is_in_language(response: str, arguments: Arguments) -> bool:
    """Whether it is in a language; a text without any is taken to be, as in the published check."""
    wanted = arguments["language"]
    if wanted not in language_codes():
        raise ValueError(f"`{wanted}` is no language that can be told")
    return detect_language(response) in (wanted, None)


def _is_english_upper(response: str, _: Arguments) -> bool:
    return response.isupper() and detect_language(response) in ("en", None)


def _is_english_lower(response: str, _: Arguments) -> bool:
    return response.islower() and detect_language(response) in ("en", None)


def _has_no_comma(response: str, _: Arguments) -> bool:
    return "," not in response


def _is_quoted(response: str, _: Arguments) -> bool:
    text = response.strip()
    return len(text) > 1 and text[0] == text[-1] == '"'


CHECKS: dict[str, Check] = {
    "keywords:existence": _has_keywords,
    "keywords:frequency": _keyword_frequency,
    "keywords:forbidden_words": _has_no_forbidden_words,
    "keywords:letter_frequency": _letter_frequency,
    "length_constraints:number_words": _number_of_words,
    "length_constraints:number_sentences": _number_of_sentences,
    "length_constraints:number_paragraphs": _number_of_paragraphs,
    "length_constraints:nth_paragraph_first_word": _first_word_of_paragraph,
    "detectable_content:number_placeholders": _number_of_placeholders,
    "detectable_content:postscript": _has_postscript,
    "detectable_format:number_bullet_lists": _number_of_bullets,
    "detectable_format:constrained_response": _is_constrained,
    "detectable_format:number_highlighted_sections": _number_of_highlights,
    "detectable_format:multiple_sections": _number_of_sections,
    "detectable_format:json_format": _is_json,
    "detectable_format:title": _has_title,
    "combination:two_responses": _is_two_responses,
    "combination:repeat_prompt": _repeats_prompt,
    "startend:end_checker": _ends_with,
    "startend:quotation": _is_quoted,
    "language:response_language": _is_in_language,
    "change_case:capital_word_frequency": _words_in_capitals,
    "change_case:english_capital": _is_english_upper,
    "change_case:english_lowercase": _is_english_lower,
    "punctuation:no_comma": _has_no_comma,
}
