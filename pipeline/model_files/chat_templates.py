"""What `chat_template:` names: one of ours or TRL's, a file, or the template of another model.

Finds the text on this machine, without torch and without importing TRL; the template of a model on
the hub is fetched when the stage runs (pipeline/models/chat_templates.py).
"""

from __future__ import annotations

import re
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from jinja2 import Environment, ext, meta

from pipeline.config.references import HubModel, LocalModel, model_source
from pipeline.errors import PosttrainError, closest
from pipeline.files.foreign_files import is_there, read_object, read_text
from pipeline.files.names import TOKENIZER_CONFIG
from pipeline.model_files.template_text import Generation, template_problem

if TYPE_CHECKING:
    from collections.abc import Mapping

    from pipeline.config.references import Places

# What a model without a template gets where it learns conversations: its two tokens are added and
# trained. The template of Qwen 2 and many more models, but without a default system turn.
DEFAULT = "chatml"
_CHATML = (
    "{% for message in messages %}"
    "{{ '<|im_start|>' + message['role'] + '\\n' + message['content'] + '<|im_end|>' + '\\n' }}"
    "{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\\n' }}{% endif %}"
)
_ENDING = ".jinja"
_IN_FOLDER = ("chat_template.jinja", "chat_template.json", TOKENIZER_CONFIG)
# What looks like a control token in a template's text.
_TOKEN = re.compile(
    r"<\|[^|<>\s'\"{}]{1,40}\|>"
    "|<\uff5c[^\uff5c<>\\s'\"{}]{1,40}\uff5c>"  # DeepSeek's wide bars
    r"|</?[a-z]+_of_[a-z]+>"
    r"|<\|[a-z_]{1,40}>|<[a-z_]{1,40}\|>"  # Gemma 4's
)


@cache
def _find_shipped() -> Mapping[str, Path]:
    """Find the files of TRL's templates by name, without importing TRL."""
    spec = find_spec("trl")
    places = (spec.submodule_search_locations or []) if spec else []
    folders = [Path(place) / "chat_templates" for place in places]
    return {path.stem: path for folder in folders for path in sorted(folder.glob(f"*{_ENDING}"))}


def template_names() -> tuple[str, ...]:
    """Return the names that `chat_template:` takes."""
    return (DEFAULT, *_find_shipped())


def template_text(name: str, places: Places) -> str | HubModel:
    """Return the text of the template that a recipe names, or the hub model that has it.

    Raises ValueError, in words for a person, for anything but a name, a file or a model.
    """
    if name == DEFAULT:
        return _CHATML
    if name in _find_shipped():
        return _find_shipped()[name].read_text(encoding="utf-8")
    if name.endswith((_ENDING, ".txt")):
        path = places.file(name)
        if not path.is_file():
            siblings = (
                [sibling.name for sibling in path.parent.glob("*")] if path.parent.is_dir() else []
            )
            near = closest(path.name, siblings)
            raise ValueError(f"`{name}` does not exist{f'; {near}' if near else ''}")
        return _check(path, read_text(path))
    try:
        source = model_source(name, places)
    except ValueError as error:
        if "/" in name or name.startswith("."):
            raise
        near = closest(name, template_names()) or f"there are {', '.join(template_names())}"
        raise ValueError(f"there is no chat template `{name}`; {near}") from error
    if isinstance(source, HubModel):
        return source
    if not isinstance(source, LocalModel):
        raise ValueError(f"`{name}` is a stage; name a template, a file or a model elsewhere")  # noqa: TRY004
    return _of_folder(name, source.path)


def _of_folder(named: str, folder: Path) -> str:
    for name in _IN_FOLDER:
        path = folder / name
        if not is_there(path):
            continue
        text: Any = read_text(path) if name.endswith(_ENDING) else None
        if text is None:
            text = read_object(path).get("chat_template")
        if isinstance(text, str):
            return _check(path, text)
    raise ValueError(f"`{named}` has no chat template")


def _check(path: Path, text: str) -> str:
    problem = template_problem(text)
    if problem:
        raise PosttrainError(str(path), problem, "give another template")
    return text


def control_tokens(text: str) -> tuple[str, ...]:
    """Return what looks like control tokens in a template's text, in order, without repeats."""
    return tuple(dict.fromkeys(_TOKEN.findall(text)))


def template_variables(text: str) -> frozenset[str]:
    """Return the variables that a template reads without setting them first."""
    environment = Environment(extensions=[Generation, ext.loopcontrols])
    return frozenset(meta.find_undeclared_variables(environment.parse(text)))


def set_variables(text: str, values: Mapping[str, Any]) -> str:
    """Return the template with default values for some of its variables.

    A model is then asked, evaluated and exported with the values that it was trained with. They
    stand on lines of their own, which Jinja drops, so that white space at the start stays.
    """
    lines = [
        f"{{%- if {name} is not defined %}}{{% set {name} = {_literal(value)} %}}{{% endif %}}\n"
        for name, value in sorted(values.items())
    ]
    return "".join(lines) + text


def _literal(value: Any) -> str:
    """Return a value of YAML as Jinja writes it."""
    if value is None:
        return "none"
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, str):
        return '"' + value.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n") + '"'
    if isinstance(value, list):
        return "[" + ", ".join(_literal(item) for item in cast("list[Any]", value)) + "]"
    if isinstance(value, dict):
        items = cast("dict[str, Any]", value).items()
        return "{" + ", ".join(f"{_literal(key)}: {_literal(item)}" for key, item in items) + "}"
    return repr(value)
