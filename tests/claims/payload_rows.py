"""Texts that try to become something else, for every place where others' texts are shown.

Those of tests/hostile_texts.py, and what is rarer: links, styles, Markdown, formulas, YAML, escape
sequences that set a terminal's title, clipboard or links, marks without end.
"""

from tests.hostile_texts import HOSTILE

_RUN = "document.title=window.pwned='pwned'"

PAYLOADS = (
    *HOSTILE,
    f"<svg><a xlink:href='javascript:{_RUN}'><text y=9>x</text></a></svg>",
    f"<svg><use href=\"data:image/svg+xml,<svg id='x' onload='{_RUN}'/>#x\"></svg>",
    f"<math href='javascript:{_RUN}'><mi xlink:href='data:text/html,x'>x</mi></math>",
    f"\" style='background:url(javascript:{_RUN})' x=\"",
    "</style><style>@import 'https://evil.example/a.css';*{display:none}",
    f"jav&#x09;ascript&colon;{_RUN} data:text/html;base64,PHNjcmlwdD4=",
    f"[press](javascript:{_RUN}) ![](https://evil.example/a.png) <https://evil.example/>",
    "https://evil.example/ HTTP://evil.example WWW.evil.example nobody@evil.example",
    "[a]: https://evil.example\n\n[a] [^1]\n\n[^1]: a note",
    "```\n# a heading\n```\n~~~\n<b>\n~~~ `code` ``` ` ```",
    "\n---\nlicense: mit\ntags: [pwned]\n---\n",
    "\n\n# pwned\n\n- a list\n\n> a quote\n\n***\n\n    code",
    "| a | b |\n|---|---|\n| c | d || e \\| f |",
    "ends with a backslash \\",
    "$$\\href{javascript:alert(1)}{x}$$ \\(x\\) \\[x\\] \\unicode{x}",
    ": !!python/object/apply:os.system [id] &a *a <<: {a: b} # ' \" %TAG @ ` ? -",
    "\x1b]8;;https://evil.example\x07press\x1b]8;;\x07 \x1b]52;c;cHduZWQ=\x07",
    '\x1bP$q"p\x1b\\ \x1b_x\x1b\\ \x1bX\x1b^ \x1b[6n \x1b[?1049h \x1bc',
    "over\rwritten\x08\x08\x08 \x0b\x0c\x1f",
    "".join(map(chr, (*range(9), 11, 12, *range(13, 32), *range(127, 160)))),
    "\u200b\u200c\u200d\u2060\u00ad\ufeff\u034f\u115f\u3164\uffa0\u180e",
    "\u061c\u200e\u200f\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069",
    "".join(chr(0xE0000 + ord(c)) for c in "hidden"),
    "a" + "\u0301\u0489" * 400,
    "\ude00\ud83d reversed \udfff",
    "[link=https://evil.example]rich[/link] [/] [bold [/bold] [on red] \\[x]",
    "+ADw-script+AD4- <plaintext> <xmp> <noembed> <!DOCTYPE x [<!ENTITY y 'z'>]> <?php ?>",
    "W" * 3000,
)
