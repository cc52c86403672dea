"""Who judged responses, as a card says it: reward models, verifiers, functions, judges.

Reads a stage's identity, where a model is a fingerprint, a hub id or a folder.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, cast

from pipeline.commands.export import without_places
from pipeline.store.fingerprint import SHORT

if TYPE_CHECKING:
    from collections.abc import Mapping


def describe_reward(term: Mapping[str, Any]) -> str:
    """Return a term of a reward: what judges, and its weight."""
    judge = _judged_by(term)
    weight = term.get("weight")
    return judge if weight == 1 else f"{without_places(weight)} x {judge}"


def describe_judge(block: Mapping[str, Any]) -> str:
    """Return a language model that judges, and by what."""
    endpoint = block.get("endpoint")
    name = f"{endpoint['model']} (an endpoint)" if endpoint else _model(block.get("model"))
    principles = block.get("principles")
    if not principles:
        return name
    file = cast("Mapping[str, Any]", principles).get("file") if isinstance(principles, dict) else {}
    by = f"the constitution {file['name']}" if file else f"{len(principles)} principles"
    return f"{name} by {by}"


def _judged_by(term: Mapping[str, Any]) -> str:
    if term.get("verify"):
        return "the task's verifier"
    if term.get("use"):
        return str(term["use"]["object"])
    if term.get("judge"):
        return f"the judge {describe_judge(term['judge'])}"
    if isinstance(term.get("model"), list):
        members = ", ".join(_model(model) for model in term["model"])
        return f"the {term.get('ensemble', 'mean')} of the reward models {members}"
    return f"the reward model {_model(term.get('model'))}"


def _model(described: Any) -> str:
    """Return what a model's identity says of it."""
    if not isinstance(described, dict):
        return str(without_places(described))
    named = cast("Mapping[str, Any]", described)
    if "hub" in named:
        return f"{named['hub']} at {str(named['revision'])[:12]}"
    if "artifact" in named:
        return f"of the stage {named['artifact'][:SHORT]}"
    return f"in the folder {named.get('folder', '')}"
