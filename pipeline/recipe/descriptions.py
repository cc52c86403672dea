"""What the keys of a recipe mean, from the docstrings of its classes.

Our blocks describe their fields in the class docstring (`rows: at most this many`, several on one
line too), PPOConfig in a string below each field; upstream's config classes have a `Parameters:`
section, or a `help` beside the field. Nothing is described twice: schema.py and key_reference.py
read it from there.
"""

import ast
import inspect
import re
from collections.abc import Collection, Iterator, Mapping
from functools import cache
from itertools import pairwise, zip_longest

from pydantic import BaseModel

from pipeline.config.trainer_fields import class_statements

# `lora_alpha (`int`, *optional*, defaults to 8):`, with the lines below it.
_PARAMETER = re.compile(r"^( *)(\w+) ?\(.*\):[ \n]*$")
# Upstream's fields whose meaning is ours: what upstream says of them is not what happens here.
_MAX_LENGTH = (
    "Tokens that a row may have at most; the stage's `too_long` says what becomes of longer ones, "
    "`truncation_side` where they are cut. By default as many as the model has positions."
)
_OURS: Mapping[str, Mapping[str, str]] = {
    "SFTConfig": {"max_length": f"{_MAX_LENGTH} With `packing`, the tokens of a line."},
    "DPOConfig": {"max_length": f"{_MAX_LENGTH} A pair counts with its longer response."},
    "KTOConfig": {"max_length": _MAX_LENGTH},
    "RewardConfig": {"max_length": f"{_MAX_LENGTH} A pair counts with its longer response."},
}
_ADMONITION = re.compile(r"^> ?\[!\w+\]$|^> ?")


def summary_of_block(block: type[BaseModel]) -> str:
    """Return what a block is: its docstring up to the fields; "" where it begins with fields."""
    text = inspect.cleandoc(block.__doc__ or "")
    first = next(_occurrences(text, _names(block)), None)
    return _join_lines((text[: first.start()] if first else text).split("\n\n")[0])


@cache
def field_descriptions(block: type[BaseModel]) -> Mapping[str, str]:
    """Return the descriptions of a block's fields by name or alias, including inherited fields."""
    names = _names(block)
    descriptions: dict[str, str] = {}
    for owner in reversed(block.__mro__):
        text = inspect.cleandoc(owner.__dict__.get("__doc__") or "")
        descriptions.update(_read_descriptions(text, names))
    return descriptions


@cache
def argument_descriptions(class_name: str) -> Mapping[str, str]:
    """Return what upstream's config class, or our PPOConfig, says about its fields, by name."""
    descriptions: dict[str, str] = {}
    for node in class_statements(class_name):
        text = ast.get_docstring(node) or ""
        own = {
            statement.target.id: statement
            for statement in node.body
            if isinstance(statement, ast.AnnAssign) and isinstance(statement.target, ast.Name)
        }
        descriptions.update({key: help_ for key, field in own.items() if (help_ := _help(field))})
        descriptions.update(_stated_below(node))
        descriptions.update(_parameters(text) or _read_descriptions(text, own.keys()))
    return {**descriptions, **_OURS.get(class_name, {})}


def _names(block: type[BaseModel]) -> set[str]:
    return {field.alias or name for name, field in block.model_fields.items()}


def _occurrences(text: str, names: Collection[str]) -> Iterator[re.Match[str]]:
    """Yield where a docstring begins to describe fields: `a: `, `a, b: ` at a sentence's start."""
    for match in re.finditer(r"(?:^|\n *|(?<=[.;)?] ))((?:\w+, )*\w+): ?", text):
        if all(name in names for name in match[1].split(", ")):
            yield match


def _read_descriptions(text: str, names: Collection[str]) -> dict[str, str]:
    matches = [*_occurrences(text, names)]
    descriptions: dict[str, str] = {}
    for match, following in zip_longest(matches, matches[1:]):
        end = following.start() if following else len(text)
        description = _join_lines(text[match.end() : end].split("\n\n")[0])
        descriptions.update(dict.fromkeys(match[1].split(", "), description))
    return descriptions


def _parameters(text: str) -> dict[str, str]:
    """Return what a `Parameters:` section says, the first paragraph per field."""
    lines_by_name: dict[str, list[str]] = {}
    name, margin = "", 0
    for line in text.split("\n"):
        match = _PARAMETER.match(line)
        if match and (not name or len(match[1]) <= margin):
            name, margin = match[2], len(match[1])
            lines_by_name[name] = []
        elif name and line.strip() and len(line) - len(line.lstrip()) > margin:
            lines_by_name[name].append(_ADMONITION.sub("", line.strip()))
        elif line.strip():
            name = ""
    return {key: _join_lines("\n".join(lines)) for key, lines in lines_by_name.items() if lines}


def _stated_below(owner: ast.ClassDef) -> dict[str, str]:
    """Return the first paragraphs of the strings that stand right below fields, by the fields."""
    descriptions: dict[str, str] = {}
    for statement, following in pairwise(owner.body):
        match statement, following:
            case ast.AnnAssign(target=ast.Name(id=name)), ast.Expr(ast.Constant(str(text))):
                descriptions[name] = _join_lines(inspect.cleandoc(text).split("\n\n")[0])
            case _:
                pass
    return descriptions


def _help(statement: ast.AnnAssign) -> str:
    """Return the `help` of `field(metadata={"help": ...})`, where it is written out."""
    if not isinstance(statement.value, ast.Call):
        return ""
    for keyword in statement.value.keywords:
        if keyword.arg == "metadata" and isinstance(keyword.value, ast.Dict):
            for key, value in zip(keyword.value.keys, keyword.value.values, strict=True):
                if isinstance(key, ast.Constant) and key.value == "help":
                    return _join_lines(_literal_text(value))
    return ""


def _literal_text(value: ast.expr) -> str:
    try:
        return str(ast.literal_eval(value))
    except ValueError:  # not a literal
        return ""


def _join_lines(text: str) -> str:
    return " ".join(text.split())
