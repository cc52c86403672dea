"""A chat template's text, parsed but not run: what cannot be a template, or must not be run.

A template is foreign code in Jinja's sandbox, which keeps it from files and Python's internals, not
from using all time and memory. data/encoding/template.py limits both; powers are refused here,
since `9**9**9` cannot be interrupted, and Jinja computes it while it compiles.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

from jinja2 import Environment, TemplateError, ext, nodes

if TYPE_CHECKING:
    from jinja2.parser import Parser

LARGEST = 1_000_000  # characters; the longest that TRL ships has 17,000
_DEEPEST = 100  # nested blocks and brackets: Python's compiler gives up soon after


class Generation(ext.Extension):
    """Reads `{% generation %}`, which transformers adds to Jinja."""

    tags: ClassVar[set[str]] = {"generation"}  # pyright: ignore[reportIncompatibleVariableOverride]

    def parse(self, parser: Parser) -> list[nodes.Node]:
        """Return what the block holds."""
        next(parser.stream)
        return parser.parse_statements(("name:endgeneration",), drop_needle=True)


def template_problem(text: str) -> str | None:
    """Return what is wrong with a chat template, or None; takes milliseconds."""
    if len(text) > LARGEST:
        return f"the chat template has {len(text)} characters"
    try:
        tree = Environment(extensions=[Generation, ext.loopcontrols]).parse(text)
        if _depth(tree) > _DEEPEST:
            return "the chat template is nested too deeply"
        if next(tree.find_all(nodes.Pow), None) is not None:
            return "the chat template raises a number to a power (`**`)"
    except TemplateError as error:
        line = getattr(error, "lineno", None)
        return f"the chat template is broken{f' in line {line}' if line else ''} ({error})"
    except RecursionError:
        return "the chat template is nested too deeply"
    return None


def _depth(node: nodes.Node) -> int:
    """Return the depth of a tree, without recursion, since it may be very deep."""
    deepest, level = 0, [node]
    while level:
        deepest += 1
        level = [child for parent in level for child in parent.iter_child_nodes()]
    return deepest
