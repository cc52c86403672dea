r"""Pull an answer out of a response: a number, a letter, a code block, a JSON object.

Pure functions from text to text, None when there is no such answer. Not a grader: what a found
answer is worth is said in reward/verifiers. Every pattern is bounded, so that a hostile response
costs time in proportion to its length.
"""

import re

# A fraction before a plain number, so that 3/4 is not read as 4; 2024/05/06 is no fraction.
_NUMBER = (
    r"(?:(?<![\w)\]}.])[-+])?(?<![A-Za-z0-9_])"
    r"(?:(?<!/)[0-9]+/[0-9]+(?!/?[0-9])"
    r"|(?:[1-9][0-9]{0,2}(?:,[0-9]{3})+(?![0-9])|[0-9]+)(?:\.[0-9]+)?(?:[eE][-+]?[0-9]{1,3}(?![0-9]))?"
    r"|\.[0-9]+)"
)
_ANY_NUMBER = re.compile(_NUMBER)
_LONE_NUMBER = re.compile(rf"[\s$*(\[\"'`\\]{{0,8}}({_NUMBER})[\s$*)\]\"'`\\%.]{{0,8}}")
_STATED_NUMBER = re.compile(
    r"\banswer\b[*_ ]{0,4}(?:is\b|[:=])[:=*_$(\[\"'` ]{0,8}(?:(?:about|approximately|exactly) )?"
    rf"({_NUMBER})(?![0-9]|[.,/][0-9]| ?[-+*/^=x] ?[0-9(])",
    re.IGNORECASE,
)
_LATEX_FRACTION = re.compile(
    r"(?:(?<![0-9.,/^{])([0-9]{1,9}) ?)?\\[dtc]?frac"
    r"(?:\{(-?)([0-9]{1,50})\}\{([0-9]{1,50})\}|()([0-9])([0-9]))"
)
_MIXED = re.compile(r"(?<![0-9.,/^])([0-9]{1,9}) ([0-9]{1,9})/([0-9]{1,9})(?!/?[0-9]|[.,][0-9])")
_POWER_OF_TEN = re.compile(
    r"(?:([0-9]{1,50}(?:\.[0-9]{1,50})?) ?(?:\\times|\\cdot|[\u00d7\u00b7*x]) ?|(?<![0-9.,^/*_]))"
    r"10(?:\^|\*\*)(?:\{ ?)?(-?[0-9]{1,3})\}?(?![0-9])"
)
_THOUSANDS = re.compile(r"(?<=[0-9])(?:\{,\}|,?\\[,!]|[\u00a0\u2009\u202f])(?=[0-9]{3}(?![0-9]))")
_UNIT_POWER = re.compile(r"(?<=[0-9 ])(?:[cdkm]?m|ft|yd|s)\^\{?[23]\}?(?![0-9])")
_LATEX_UNIT = re.compile(r"\\(?:text|mathrm)\{[^{}]{0,60}\}(?:\^\{?[0-9]\}?)?")
_BRACE = re.compile(r"\\boxed\{|\\[{}]|[{}]")
_HASHES = re.compile(r"^####[ \t]*(\S[^\n]*)", re.MULTILINE)
_FENCE = re.compile(r"^[ \t]{0,3}```[ \t]*+([^\s`]*+)[^\n`]*+$", re.MULTILINE)
_LABELS = {"python": ("python", "python3", "py"), "sql": ("sql", "sqlite", "sqlite3")}


def boxed(text: str) -> str | None:
    r"""Return what stands in the `\boxed{...}` that closes last, braces inside it included."""
    content: tuple[int, int] | None = None
    starts: list[int | None] = []  # one for each open brace: where its content begins, if a box's
    for brace in _BRACE.finditer(text):
        if brace[0] == "}":
            start = starts.pop() if starts else None
            if start is not None:
                content = start, brace.start()
        elif brace[0] == "{":
            starts.append(None)
        elif brace[0].startswith(r"\boxed"):
            starts.append(brace.end())
    return None if content is None else text[slice(*content)].strip()


def after_hashes(text: str) -> str | None:
    """Return the rest of the last line that begins with `####`, as GSM8K marks its answers."""
    found = _HASHES.findall(text)
    return found[-1].strip() if found else None


def stated_number(text: str) -> str | None:
    """Return the number of the last `answer is 42` or `Answer: 42`; not of `answer is 40 + 2`."""
    found = _STATED_NUMBER.findall(_plain(re.sub(r"\s+", " ", text)))
    return _without_separators(found[-1]) if found else None


def lone_number(text: str) -> str | None:
    """Return the number that the text is, apart from white space, quotes, `$` and `%`."""
    match = _LONE_NUMBER.fullmatch(_plain(text))
    return _without_separators(match[1]) if match else None


def last_number(text: str) -> str | None:
    """Return the last number: sign, decimals and fraction kept, thousands separators dropped.

    A minus sign counts only where it cannot be a subtraction: `x = -5`, not `10-5`.
    """
    found = _ANY_NUMBER.findall(_plain(text))
    return _without_separators(found[-1]) if found else None


def only_number(text: str) -> str | None:
    """Return the number in a text that has no other, as `last_number` reads it."""
    found = _ANY_NUMBER.findall(_plain(text))
    return _without_separators(found[0]) if len(found) == 1 else None


def choice_letter(text: str, letters: str = "ABCD") -> str | None:
    """Return the letter that a multiple-choice response settles on.

    Read in this order: a boxed letter, the last `answer is B` or `Answer: (B)`, a response or a
    last line that is nothing but a letter, a letter that opens the response (`B)`, `B.`), the only
    bracketed letter. `A dog` is no choice.
    """
    one = f"[{re.escape(letters)}]"
    inside = boxed(text)
    if inside is not None:
        match = re.fullmatch(rf"(?:\\text\{{)?\(?({one})\)?\.?\}}?", inside, re.IGNORECASE)
        if match:
            return match[1].upper()
    stated = re.findall(
        rf"\b(?i:answer|choice|option)\b[*_ ]{{0,4}}(?:is\b|:)[*_ ]{{0,4}}"
        rf"(?:(?i:option|choice) )?\(?({one})\b",
        re.sub(r"\s+", " ", text),
    )
    if stated:
        return stated[-1]
    stripped = text.strip()
    for part in (stripped, stripped.rsplit("\n", 1)[-1]):
        match = re.fullmatch(rf"[*(\s]{{0,4}}({one})[*).\s]{{0,4}}", part, re.IGNORECASE)
        if match:
            return match[1].upper()
    match = re.match(rf"\(({one})\)|\*{{0,2}}({one})[).:]", stripped)
    if match:
        return match[1] or match[2]
    bracketed = set(re.findall(rf"\(({one})\)", text))
    return bracketed.pop() if len(bracketed) == 1 else None


def choice_letters(text: str, letters: str = "ABCD") -> str | None:
    """Return the letters that a response to a question with several right options settles on.

    Sorted, each once: of `BC`, `B, C`, `(B) and (C)`. Read where `choice_letter` reads one: in a
    box, after the last `answer is`, as the whole response or its last line, at its beginning.
    """
    one = rf"\(?[{re.escape(letters)}]\)?"
    run = rf"{one}(?:(?: ?[,;/&+] ?(?:and )?| and | )?{one}){{0,9}}"
    found: list[str] = []
    inside = boxed(text)
    if inside is not None:
        found += re.findall(rf"^(?:\\text\{{)?({run})\.?\}}?$", inside)
    if not found:
        stated = re.findall(
            rf"\b(?i:answers?|choices?|options?)\b[*_ ]{{0,4}}(?:is|are|:)[:*_ ]{{0,4}}"
            rf"(?:(?i:options?|choices?) )?({run})(?![A-Za-z])",
            re.sub(r"\s+", " ", text),
        )
        found += stated[-1:]
    stripped = text.strip()
    for part in (stripped, stripped.rsplit("\n", 1)[-1]):
        if not found:
            found += re.findall(rf"^[*\s]{{0,4}}({run})[*.\s]{{0,4}}$", part)
    if not found:
        found += re.findall(rf"^[*]{{0,2}}({run})[.:*\n]", stripped)
    if not found:
        return None
    return "".join(sorted(set(re.sub(r"\band\b", "", found[0])) & set(letters)))


def code_block(text: str, language: str | None = None, *, defining: str = "") -> str | None:
    """Return the last fenced code block, of that language or without one.

    The last, because a response that corrects itself ends with its final version. A block that the
    end of the response cuts off counts. defining: a name; blocks that define it come before others,
    which may show how it is used.
    """
    blocks: list[str] = []
    opening: re.Match[str] | None = None
    for fence in _FENCE.finditer(text):
        if opening is None:
            opening = fence
        elif not fence[1]:
            blocks += _block(opening, text[opening.end() + 1 : fence.start()], language)
            opening = None
    if opening is not None:
        blocks += _block(opening, text[opening.end() + 1 :], language)
    if defining:
        name = re.escape(defining)
        definition = re.compile(
            rf"^(?:(?:async )?def|class) {name}\b|^{name}(?: ?:[^=\n]*+)? ?=(?!=)", re.MULTILINE
        )
        blocks = [block for block in blocks if definition.search(block)] or blocks
    return blocks[-1] if blocks else None


def _block(opening: re.Match[str], code: str, language: str | None) -> list[str]:
    label = opening[1].lower().strip("{.}")  # pandoc writes {.python}
    if language is None or label in ("", *_LABELS.get(language, (language,))):
        return [code]
    return []


def _plain(text: str) -> str:
    r"""Write LaTeX numbers and typographic signs as plain ones.

    `\frac{3}{4}` is 3/4, `2\frac{1}{2}` and `2 1/2` are 5/2, `1{,}000` and `1\,000` are 1000,
    `3 \times 10^{5}` is 3e5.
    """
    text = text.replace("\u2212", "-").replace("-$", "-")
    text = _THOUSANDS.sub("", text).replace("{,}", ",")
    if "\\" in text:
        text = _LATEX_UNIT.sub(" ", text)
        if "frac" in text:
            text = _LATEX_FRACTION.sub(_fraction, text)
    if "^" in text:
        text = _UNIT_POWER.sub(" ", text)
    if "10^" in text or "10**" in text:
        text = _POWER_OF_TEN.sub(lambda power: f"{power[1] or 1}e{power[2]}", text)
    return _MIXED.sub(_mixed, text) if "/" in text else text


def _fraction(match: re.Match[str]) -> str:
    whole, sign, top, bottom = match[1], match[2] or "", match[3] or match[6], match[4] or match[7]
    if whole is None:
        return f"{sign}{top}/{bottom}"
    if sign or int(top) >= int(bottom):  # a product: 3\frac{5}{2}
        return f"{sign}{int(whole) * int(top)}/{bottom}"
    return f"{int(whole) * int(bottom) + int(top)}/{bottom}"


def _mixed(match: re.Match[str]) -> str:
    whole, top, bottom = map(int, match.groups())
    return f"{whole * bottom + top}/{bottom}" if 0 < top < bottom else match[0]


def _without_separators(number: str) -> str:
    return number.replace(",", "").removeprefix("+")
