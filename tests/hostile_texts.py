"""Texts that try to become something else: markup, script, terminal commands, reading direction.

Each that can run a script in a browser sets the document's title and a flag to `pwned`.
"""

import zlib

_RUN = "document.title=window.pwned='pwned'"

HOSTILE = (
    f"<script>{_RUN}</script>",
    f"</script><script>{_RUN}</script>",
    f"<ScRiPt>{_RUN}</sCrIpT>",
    f"<img src=x onerror={_RUN}>",
    f"<img/src=x/onerror={_RUN}//",
    f"<svg onload={_RUN}>",
    f"<svg><script>{_RUN}</script></svg>",
    f"<svg><animate onbegin={_RUN} attributeName=x dur=1s>",
    f"<svg><set onbegin={_RUN} attributeName=x to=1>",
    f'"><script>{_RUN}</script>',
    f"'><img src=x onerror={_RUN}>",
    f'" autofocus onfocus="{_RUN}" x="',
    f"' onmouseover='{_RUN}' x='",
    f"` onload=`{_RUN}",
    f"javascript:{_RUN}",
    f'<a href="javascript:{_RUN}">a link</a>',
    f'<iframe src="javascript:{_RUN}"></iframe>',
    "<iframe srcdoc=\"<script>parent.document.title='pwned'</script>\"></iframe>",
    f"<object data='data:text/html,<script>{_RUN}</script>'></object>",
    f"<embed src='data:text/html,<script>{_RUN}</script>'>",
    "<base href='https://evil.example/'>",
    "<meta http-equiv=refresh content='0;url=https://evil.example/'>",
    "<link rel=stylesheet href='https://evil.example/a.css'>",
    "<style>body{display:none}</style>",
    f"</style><script>{_RUN}</script>",
    f"</title><script>{_RUN}</script>",
    f"</textarea></select><script>{_RUN}</script>",
    f"</svg></table></article></main></body></html><script>{_RUN}</script>",
    f"<!--<script>{_RUN}</script>-->",
    f"--><script>{_RUN}</script><!--",
    f"<![CDATA[<script>{_RUN}</script>]]>",
    f"<noscript><p title='</noscript><img src=x onerror={_RUN}>'>",
    "<math><mtext><table><mglyph><style><!--</style>"
    f'<img title="--&gt;&lt;img src=1 onerror={_RUN}&gt;">',
    f"<details open ontoggle={_RUN}>",
    f"<video><source onerror={_RUN}></video>",
    f"<form action=javascript:{_RUN}><button formaction=javascript:{_RUN}>press",
    f"<body onload={_RUN} onpageshow={_RUN}>",
    f"<template><script>{_RUN}</script></template>",
    f"&lt;script&gt;{_RUN}&lt;/script&gt; &#60;script&#62; &quot;",
    f"\\u003cscript\\u003e{_RUN}\\u003c/script\\u003e",
    "{{ 7 * 191 }} {% for x in range(9) %}{{ x }}{% endfor %} ${7 * 191} #{7 * 191}",
    "[bold red]markup of a terminal library[/] $x^{2}$ \\frac{1}{2}",
    f"\u2028{_RUN}\u2029{_RUN}",
    "\x1b[31mred\x1b[0m \x1b]0;pwned\x07 \x1b[2J",
    "\x9b31m \x85 \x90",
    "\u202eflow txet\u202c \u2066inside\u2069",
    f"zero\u200bwidth\ufeff <scr\u200bipt>{_RUN}</scr\u200bipt>",
    f"<scr\x00ipt>{_RUN}</scr\x00ipt> \x08\x7f \x0c",
    "half a character \ud83d",
)


def hostile(text: str, *, shift: int = 0) -> str:
    """Return a text with one of HOSTILE behind it: which one, its last characters decide."""
    return text + HOSTILE[(zlib.crc32(text[-8:].encode()) + shift) % len(HOSTILE)]
