"""Text that others wrote, made safe to look at: what cannot be seen is shown as an escape.

A model may write anything, and so may whoever names a stage: terminal commands, characters that
reverse the reading direction, characters without width. It escapes no HTML or Markdown: that is for
whoever puts the text there.
"""

import re

# C0 but tab and newline, DEL and C1 (ESC and the 8-bit CSI among them); soft hyphen; what sets the
# reading direction; zero width and invisible operators; separators that break a line where none
# seems to be; variation selectors but the two that ordinary emoji carry; marks of annotations,
# shorthand, music and hieroglyphs; tag characters, which hide a whole text; surrogates, which
# cannot be written as UTF-8.
_UNSEEN = re.compile(
    "[\x00-\x08\x0b-\x1f\x7f-\x9f\xad\u034f\u061c\u115f\u1160\u17b4\u17b5\u180b-\u180f"
    "\u200b-\u200f\u2028-\u202e\u2060-\u206f\u3164\ufe00-\ufe0d\ufeff\uffa0\ufff0-\ufffb"
    "\U00013430-\U0001343f\U0001bca0-\U0001bca3\U0001d173-\U0001d17a\U000e0000-\U000e0fff"
    "\ud800-\udfff]"
)


def visible(text: str) -> str:
    r"""Return a text with every control, direction and zero-width character as `\x1b` or `\u202e`.

    Newlines and tabs stay as they are; of CR LF the newline stays.
    """
    return _UNSEEN.sub(lambda match: _code(match[0]), text.replace("\r\n", "\n"))


def escape(text: str) -> str:
    """Return a text as Rich prints it, whatever is in it: `visible`, and no markup."""
    from rich import markup  # slow to import, and `visible` needs none of it

    return markup.escape(visible(text))


def _code(character: str) -> str:
    number = ord(character)
    if number <= 0xFF:
        return f"\\x{number:02x}"
    return f"\\u{number:04x}" if number <= 0xFFFF else f"\\U{number:08x}"
