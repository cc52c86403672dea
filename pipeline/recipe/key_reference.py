"""Every key of a recipe on one page: docs/keys.md, written from the schema by `make golden`."""

import re
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, cast

from pipeline.recipe.schema import schema
from pipeline.stages import kinds, stage_of

_HEAD = """\
# Every key of a recipe

Written by `make golden` from `posttrain schema`; do not edit. An editor shows the same on hover:
begin a recipe with `# yaml-language-server: $schema=recipe.schema.json` after
`posttrain schema > recipe.schema.json`. `posttrain init` does both.

{contents}
"""
_ARGUMENTS = "Fields of upstream's own classes, which go through by their own names."
_LONGEST = 300  # characters of a description in a table; editors show all of it


def key_reference() -> str:
    """Return the page, as Markdown."""
    whole = schema()
    definitions: dict[str, Any] = whole["$defs"]
    stages = {kind: definitions[stage_of(kind).config.__name__] for kind in kinds()}
    every = _find_shared([*stages.values()])
    trained = [one for one in stages.values() if "training_args" in one["properties"]]
    training = {key: rule for key, rule in _find_shared(trained).items() if key not in every}
    sections = {
        "The top": _section(whole),
        "Every stage": _section({"properties": every}),
        "Every stage that trains": _section({"properties": training}),
        **{
            f"Stage `{kind}`": _of_stage(stage, {**every, **(training if stage in trained else {})})
            for kind, stage in stages.items()
        },
        **{
            f"`{name}`": _section(definition)
            for name, definition in sorted(definitions.items())
            if definition not in stages.values()
        },
        **_argument_sections(stages),
    }
    contents = "\n".join(f"- [{title}](#{_anchor(title)})" for title in sections)
    body = "\n".join(f"## {title}\n\n{text}" for title, text in sections.items())
    return f"{_HEAD.format(contents=contents)}\n{body}"


def _of_stage(definition: Mapping[str, Any], shared: Mapping[str, Any]) -> str:
    properties = definition["properties"]
    own = {key: rule for key, rule in properties.items() if shared.get(key) != rule}
    summary = own.pop("stage")["description"]
    return _section({**definition, "description": summary, "properties": own})


def _find_shared(stages: list[Mapping[str, Any]]) -> dict[str, Any]:
    """Return the keys that all stages have in common."""
    first, *others = (stage["properties"] for stage in stages)
    return {
        key: rule
        for key, rule in first.items()
        if all(properties.get(key) == rule for properties in others)
    }


def _argument_sections(stages: Mapping[str, Mapping[str, Any]]) -> dict[str, str]:
    """Return a table of what all trainers take, and one per kind of what only that kind takes."""
    trained = {
        kind: stage["properties"]["training_args"]["properties"]
        for kind, stage in stages.items()
        if "training_args" in stage["properties"]
    }
    first, *others = trained.values()
    of_all = {
        key: first[key]
        for key in first
        if all(arguments.get(key) == first[key] for arguments in others)
    }
    sections = {
        "`training_args` of every stage that trains": f"{_ARGUMENTS}\n\n{_table(of_all, ())}",
    }
    for kind, properties in trained.items():
        own = {key: rule for key, rule in properties.items() if key not in of_all}
        sections[f"`training_args` of `{kind}`"] = (
            f"Fields of {stage_of(kind).trainer}, beside those above.\n\n{_table(own, ())}"
        )
    return sections


def _section(definition: Mapping[str, Any]) -> str:
    summary = definition.get("description", "")
    required = definition.get("else", definition).get("required", ())  # a stage's, unless swept
    table = _table(definition["properties"], required)
    return f"{_first_upper(summary)}\n\n{table}" if summary else table


def _table(properties: Mapping[str, Any], required: Iterable[str]) -> str:
    rows = [_row(key, rule, is_required=key in required) for key, rule in properties.items()]
    return "\n".join(["| key | type | default | |", "|---|---|---|---|", *rows, ""])


def _row(key: str, rule: Mapping[str, Any], *, is_required: bool) -> str:
    default = "required" if is_required else _value(rule["default"]) if "default" in rule else ""
    cells = (f"`{key}`", _type(rule), default, _short(rule.get("description", "")))
    return "| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |"


def _type(rule: Mapping[str, Any]) -> str:
    """Return the type of a key in a few words."""
    members = [member for key in ("anyOf", "oneOf") for member in rule.get(key, ())]
    if members:
        types = [_type(member) for member in members if member.get("type") != "null"]
        return " or ".join(dict.fromkeys(types))
    if "$ref" in rule:
        name = rule["$ref"].rpartition("/")[2]
        return f"[{name}](#{_anchor(f'`{name}`')})"
    if "enum" in rule or "const" in rule:
        values = [member for member in rule.get("enum", [rule.get("const")]) if member is not None]
        shown = [_value(member) for member in values[:8]]
        return " · ".join([*shown, *(["..."] if len(values) > len(shown) else [])])
    return " or ".join(_words(rule))


def _words(rule: Mapping[str, Any]) -> Iterator[str]:
    named: str | list[str] = rule.get("type", "any value")
    for name in [named] if isinstance(named, str) else named:
        if name == "array":
            inner: Mapping[str, Any] = rule.get("items") or {}
            yield f"list of {_type(inner)}" if inner else "list"
        elif name != "null":
            yield {"object": "mapping", "string": "text"}.get(name, name)


def _value(value: Any) -> str:
    if value is None or value == [] or isinstance(value, dict):
        return ""
    if isinstance(value, bool):
        return "true" if value else "false"
    items = cast("list[Any]", value) if isinstance(value, list) else [value]
    return f"`{', '.join(map(str, items))}`"


def _short(text: str) -> str:
    """Return the sentences of a description that a table has room for."""
    if len(text) <= _LONGEST:
        return text
    cut = text[:_LONGEST]
    end = max(cut.rfind(". "), cut.rfind("; "))
    return cut[: end + 1] if end > 0 else f"{cut.rpartition(' ')[0]} ..."


def _first_upper(text: str) -> str:
    sentence = text[:1].upper() + text[1:]
    return sentence if sentence.endswith(".") else f"{sentence}."


def _anchor(title: str) -> str:
    """Return the anchor that GitHub gives a heading."""
    return re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-")
