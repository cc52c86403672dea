"""What a model named on the command line stands for: a folder, a hub id, or a stage of a recipe.

Resolves the name and loads nothing; pipeline/models/load.py does that. How recipes name models
(`$stage`) is config/references.py's subject.
"""

import re
from collections.abc import Mapping
from pathlib import Path
from shlex import quote

from pipeline.config.references import HubModel, LocalModel, Places, model_source
from pipeline.config.shipped_recipes import list_shipped_recipes, recipe_path
from pipeline.config.stage import StageInput
from pipeline.errors import PosttrainError, closest
from pipeline.plan.plan import Plan, make
from pipeline.recipe.load import load
from pipeline.stages import stage_of
from pipeline.store.lineage import as_input, verify_closure
from pipeline.store.store import Artifact, Store, check_finished, is_finished, read

_RECIPE_FILES = (".yaml", ".yml")
_FORMS = "a folder as `./name`, a hub model as `owner/name`, a stage as `recipe.yaml:stage`"


def resolve_model(
    text: str, store: Store, *, roots: Mapping[str, Path] | None = None
) -> StageInput:
    """Return the policy that a command line names; imports no torch.

    text: a folder with a model or an adapter (a stage's folder below runs/ included), a hub id
    `owner/name` or `owner/name@revision`, or a finished stage, `mine.yaml:sft` or `quickstart:sft`.
    store: where stages' results are. roots: data folders by name, as `--root` gives them.
    The input is named by `text`. Raises PosttrainError that says what was looked for.
    """
    recipe, _, stage = text.rpartition(":")
    if _is_recipe(recipe):
        return _stage_output(text, Path(recipe), stage, store, roots or {})
    if text.endswith(_RECIPE_FILES):
        plan = make(load(Path(text), roots=roots), store)
        raise PosttrainError(text, "is a recipe, not a model", f"name a stage, {_policies(plan)}")
    source = _folder_or_hub(text, Places(Path().absolute(), roots or {}))
    if isinstance(source, HubModel):
        return StageInput(text, "policy", source.id, revision=source.revision)
    folder = source.path.resolve()  # below runs/ lie links; an adapter's base lies beside it
    if is_finished(folder):
        return _as_policy(text, read(folder), "name the folder of another stage")
    check_finished(folder)
    return StageInput(text, "policy", str(folder))


def recipe_folder(text: str) -> Path | None:
    """Return the folder of the recipe that a model is named by; None where none names it."""
    recipe = text.rpartition(":")[0]
    return recipe_path(Path(recipe)).parent if _is_recipe(recipe) else None


def _is_recipe(text: str) -> bool:
    return text.endswith(_RECIPE_FILES) or text in list_shipped_recipes()


def _folder_or_hub(text: str, places: Places) -> LocalModel | HubModel:
    """Return the folder, or the hub id where no folder of that name can be meant."""
    is_path = text.startswith((".", "/", "~")) or "://" in text
    try:
        path = places.file(text)
        if not is_path and path.is_file():  # else `data/model.bin` would be taken for a hub id
            is_path, text = True, f"./{text}"
        source = model_source(text, places, kinds=("policy",))
    except OSError as error:
        raise PosttrainError(text, f"cannot be read ({error.strerror})") from error
    except ValueError as error:
        is_name = re.fullmatch(r"[\w.@:$-]+(/[\w.@:$-]+)*", text)
        if is_name and not is_path and not Path(text).is_dir():
            raise _unknown(text) from error
        raise PosttrainError("", str(error)) from error
    if isinstance(source, LocalModel):
        return source
    if not isinstance(source, HubModel):
        raise _unknown(text)
    owner = Path(source.id).parent
    if owner.is_dir() and source.revision is None:
        beside = (f"{owner}/{path.name}" for path in owner.iterdir() if path.is_dir())
        near = closest(text, beside)
        hint = f"of the hub's model say so: `{text}@main`"
        message = f"there is no such folder in `{owner}`"
        raise PosttrainError(text, message, f"{near} {hint}" if near else hint)
    return source


def _unknown(text: str) -> PosttrainError:
    message = f"is no folder (looked for {Path(text).absolute()}), no hub id and no stage"
    return PosttrainError(text or "the model", message, f"write {_FORMS}")


def _stage_output(
    text: str, path: Path, name: str, store: Store, roots: Mapping[str, Path]
) -> StageInput:
    """Return the result of a recipe's stage, which must have run as the recipe is now."""
    plan = make(load(path, roots=roots), store)
    if name not in plan.recipe.stages:
        hint = closest(name, plan.recipe.stages) or f"name one of {_policies(plan)}"
        raise PosttrainError(str(path), f"there is no stage `{name}`", hint)
    planned = plan.stage(name)
    if stage_of(planned.kind).produces != "policy":
        message = f"makes no language model ({stage_of(planned.kind).produces.replace('_', ' ')})"
        raise PosttrainError(text, message, f"name one of {_policies(plan)}")
    if planned.artifact is not None:
        return _as_policy(text, planned.artifact, "")
    run = f"`posttrain run {path} --until {quote(name)}` makes it"
    earlier = store.runs / plan.recipe.run_name / name
    if planned.because == "first time" or not is_finished(earlier):
        message = f"has not run yet: there is no {planned.path}"
        raise PosttrainError(text, message, run)
    message = f"has no result for the recipe as it is ({planned.because})"
    raise PosttrainError(text, message, f"{run}; its last result is {earlier}")


def _as_policy(text: str, artifact: Artifact, hint: str) -> StageInput:
    if artifact.produces != "policy":
        message = f"holds no language model ({artifact.produces.replace('_', ' ')})"
        raise PosttrainError(text, message, hint)
    verify_closure(artifact)
    return as_input(artifact, text)


def _policies(plan: Plan) -> str:
    """Return the stages that make a language model, those with a result first."""
    models = [planned for planned in plan.stages if stage_of(planned.kind).produces == "policy"]
    models.sort(key=lambda planned: planned.artifact is None)
    return ", ".join(f"`{planned.name}`" for planned in models) or "none is there"
