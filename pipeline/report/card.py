"""The model card of an export: where a model comes from, what it scored, how it is loaded.

Everything that a recipe or a data file can name is escaped: it stands in Markdown and in YAML.
"""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from jinja2 import Environment, StrictUndefined

from pipeline.commands.export import without_places
from pipeline.config.references import HubModel
from pipeline.config.stage_config import TRAINED_ON
from pipeline.config.training_args import settings_in_use
from pipeline.data.encoding.lengths import describe_rows
from pipeline.report.card_data import card_data, eval_results, held_out_accuracy_of
from pipeline.report.card_rewards import describe_judge, describe_reward
from pipeline.report.formatting import digits_of
from pipeline.report.rollouts import KINDS, read_rollouts, summarize_rollouts
from pipeline.report.screening import test_items_found
from pipeline.stages.best import CHOOSING
from pipeline.stages.compare import read_comparison
from pipeline.store.fingerprint import SHORT
from pipeline.text.visible import visible

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from eval.comparison.score_rows import Row
    from pipeline.commands.export_contents import Export, Prompting
    from pipeline.commands.gguf import GgufFile
    from pipeline.plan.plan import Plan, PlannedStage
    from pipeline.store.store import Artifact

_TEMPLATE = Path(__file__).with_name("model_card.md.j2")
# `:` and `.` as well where a reader would make a link of a bare address.
_SPECIAL = re.compile(
    r"[\\`*\[\]<>|~&$#@]|(?<![^\W_])_|_(?![^\W_])|:(?=//)|(?<=www)\.", re.IGNORECASE
)
_SETTINGS = (
    *("learning_rate", "beta", "loss_type", "desirable_weight", "undesirable_weight"),
    *("num_train_epochs", "max_length"),
)
_BLOCK_SETTINGS = (
    *("tokens", "sequence_length", "batch_size", "precision", "vocab_size"),
    *("num_samples", "temperature", "max_new_tokens", "thumbs", "at_least"),
)
_RESULTS = ("steps", "rows", "trained_tokens", "parameters", "trained_parameters")


def model_card(
    export: Export, asked: Prompting, files: Sequence[GgufFile] = (), *, repository: str | None
) -> str:
    """Return README.md of an export, with what the hub reads of it.

    files: the GGUF files in it. repository: its name on the hub, where it goes there.
    """
    from huggingface_hub import ModelCard

    artifact, base = export.artifact, export.base
    chain = stages_behind(export.plan, export.planned.name)
    trained = artifact
    if artifact.kind in CHOOSING and len(chain) > 1:
        trained = chain[-2].artifact or artifact  # the chosen one, which all before it lead to
    is_policy = artifact.produces == "policy"
    environment = Environment(
        trim_blocks=True, lstrip_blocks=True, undefined=StrictUndefined, keep_trailing_newline=True
    )
    environment.filters["text"] = text
    template = environment.from_string(_TEMPLATE.read_text(encoding="utf-8"))
    comparisons = list(_comparisons(export.plan, export.planned.name))
    body = template.render(
        name=export.planned.name,
        kind=artifact.kind,
        produces=artifact.produces,
        form=export.form,
        recipe=export.plan.recipe.name,
        fingerprint=artifact.fingerprint[:SHORT],
        inexact=[
            each.name
            for each in chain
            if each.artifact is not None and not each.artifact.provenance["exact"]
        ],
        is_chat=asked.is_chat,
        repository=repository,
        auto="AutoModelForCausalLM" if is_policy else "AutoModelForSequenceClassification",
        base=base if isinstance(base, HubModel) else None,
        base_call=_base_call(export, asked),
        embedding_rows=artifact.properties.get("embedding_rows"),
        ends_argument=_ends_argument(export, asked),
        lineage=[lineage_row(each) for each in chain],
        template_sha256=artifact.properties.get("template_sha256"),
        measures=[
            *_measures(trained.metrics),
            *_training(trained),
            *_screened(chain),
        ],
        comparisons=comparisons,
        files=[_gguf_row(each) for each in files],
        versions=versions_text(artifact.provenance),
    )
    results = eval_results(artifact, [each["own"] for each in comparisons])
    has_gguf = bool(files)
    data = card_data(export, results, chain=chain, repository=repository, has_gguf=has_gguf)
    card = ModelCard(f"---\n{data.to_yaml()}\n---\n\n{body}")
    return re.sub(r"\n{3,}", "\n\n", str(card))


def text(value: Any) -> str:
    """Return a text of a recipe's as one line of Markdown that shows it as it is."""
    line = " ".join(visible(str(value)).split())
    shown = "".join(c if c.isprintable() else repr(c)[1:-1] for c in line)
    return _SPECIAL.sub(lambda found: "\\" + found[0], shown)


def _base_call(export: Export, asked: Prompting) -> str:
    """Return the arguments of the call that loads an adapter's base."""
    base = export.base
    arguments = ['"./base"']
    if isinstance(base, HubModel):
        arguments = [json.dumps(base.id)]
        arguments += [f"revision={json.dumps(base.revision)}"] if base.revision else []
    if export.artifact.produces == "reward_model":
        arguments += ["num_labels=1", f"pad_token_id={asked.pad_token_id}"]
    return ", ".join(arguments)


def _ends_argument(export: Export, asked: Prompting) -> str:
    """Return what `generate` is told about the end; else generation_config.json says it."""
    needs_it = export.form == "adapter" and asked.is_chat
    return f", eos_token_id={list(asked.end_ids)}" if needs_it else ""


def stages_behind(plan: Plan, name: str) -> list[PlannedStage]:
    """Return every stage that a stage is made of, and itself, in order.

    Of what a model was chosen from, the chosen one.
    """
    behind = {name}
    for planned in reversed(plan.stages):
        if planned.name in behind:
            chosen = _chosen_input(plan, planned)
            behind.update(planned.inputs if chosen is None else [chosen])
    return [each for each in plan.stages if each.name in behind]


def _chosen_input(plan: Plan, planned: PlannedStage) -> str | None:
    """Return the stage that a finished choice took, by the name that it has now."""
    artifact = planned.artifact
    if artifact is None or planned.kind not in CHOOSING:
        return None
    taken = artifact.inputs.get(str(artifact.metrics.get("chosen")))
    return next((name for name in planned.inputs if plan.stage(name).fingerprint == taken), None)


def lineage_row(planned: PlannedStage) -> dict[str, str]:
    """Return a stage's row in the table of how the model was made."""
    return {
        "name": planned.name,
        "kind": planned.kind,
        "fingerprint": planned.fingerprint[:SHORT],
        "source": _source(planned),
        "data": "; ".join(
            _data(block) for field in TRAINED_ON for block in planned.identity.get(field, ())
        ),
        "settings": _settings(planned),
    }


def _source(planned: PlannedStage) -> str:
    """Return what a stage began with: stages by name, a hub id, a folder's name."""
    if planned.artifact is not None and planned.kind in CHOOSING:
        return f"{planned.artifact.metrics['chosen']}, of {len(planned.inputs)} stages"
    found = list(planned.inputs)
    if planned.identity.get("gguf"):
        found.append(f"the file {planned.identity['gguf']['name']}")
    model = planned.identity.get("model")
    if isinstance(model, dict):
        named = cast("dict[str, Any]", model)
        if "hub" in named:
            found.append(f"{named['hub']} at {str(named['revision'])[:12]}")
        elif "folder" in named:
            found.append(f"the folder {named['folder']}")
        elif "architecture" in named:
            found.append(f"new {named['architecture']} {named.get('size') or ''}")
    return ", ".join(found)


def _data(block: Mapping[str, Any]) -> str:
    """Return one source of rows: what it is, which version, how much of it."""
    said = block.get("hub", "")
    if "task" in block:
        said = f"task {block['task']['task']}, version {block['task']['version']}"
    elif "file" in block:
        said = f"{block['file']['name']}, sha256 {block['file']['sha256'][:SHORT]}"
    elif "stage" in block:
        said = f"rows of the stage {block['stage']['artifact'][:SHORT]}"
    elif "revision" in block:
        said += f" at {str(block['revision'])[:12]}"
    for key in ("subset", "split", "rows", "holdout", "weight"):
        said += f", {key} {block[key]}" if block.get(key) is not None else ""
    return str(said)


def _settings(planned: PlannedStage) -> str:
    """Return what decided the result most, and how much there was of it."""
    identity = planned.identity
    given: dict[str, Any] = {"seed": identity.get("seed")}
    given |= {key: identity.get(key) for key in _BLOCK_SETTINGS}
    arguments = settings_in_use(identity.get("training_args", {}))
    given |= {key: arguments.get(key) for key in _SETTINGS}
    if planned.artifact is not None:
        given |= {key: planned.artifact.metrics.get(key) for key in _RESULTS}
    if planned.kind in CHOOSING:
        given |= {key: planned.identity.get(key) for key in ("by", "direction")}
    said = [f"{key}: {_plain(value)}" for key, value in given.items() if value is not None]
    if identity.get("reward"):
        said.append(f"reward: {', '.join(map(describe_reward, identity['reward']))}")
    asked = [key for key in ("judge", "revise") if identity.get(key)]
    said += [f"{key}: {describe_judge(identity[key])}" for key in asked]
    if identity.get("pairs"):
        said.append(f"pairs: {identity['pairs']['which']}, margin {identity['pairs']['margin']:g}")
    lora = identity.get("lora")
    if lora is not None:
        chosen = {key: value for key, value in lora.items() if value not in (None, False)}
        said.append(f"lora: {', '.join(f'{k} {_plain(v)}' for k, v in chosen.items())}")
    return "; ".join(said)


def _plain(value: Any) -> str:
    if isinstance(value, list):
        return ", ".join(_plain(inner) for inner in cast("list[Any]", value))
    return (
        f"{value:,}" if isinstance(value, int) and value >= 10_000 else str(without_places(value))
    )


def _measures(metrics: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """Yield what a stage measured of its model, those that it did."""
    get = metrics.get
    if describe_rows(metrics):
        yield "rows", describe_rows(metrics)
    if get("held_out_accuracy") is not None:
        told = _figure(get("held_out_accuracy"), get("held_out_low"), get("held_out_high"))
        measured = held_out_accuracy_of(metrics)
        yield measured.name, f"{told}, n = {measured.n}"
    if get("kl") is not None:
        told = _figure(get("kl"), get("kl_low"), get("kl_high"))
        prompts = get("kl_prompts", "held out")
        yield f"KL to the reference, in nats a response, on prompts {prompts}", told
    if get("calibration_error") is not None:
        yield "calibration error", _figure(get("calibration_error"))
    for key, value in metrics.items():
        if key.startswith("bits_per_byte ") and value is not None:
            label = without_places(key.removeprefix("bits_per_byte "))
            yield f"bits per byte of held-out text: {label}", _figure(value, digits=3)
    if get("loss") is not None:
        yield "last training loss", _figure(get("loss"), digits=3)


def _training(artifact: Artifact) -> Iterator[tuple[str, str]]:
    """Yield how reinforcement learning went, where it did."""
    said = summarize_rollouts(read_rollouts(artifact.path)) if artifact.kind in KINDS else ""
    if said:
        yield f"rollouts of {artifact.kind.upper()}, first to last", said


def _screened(chain: Sequence[PlannedStage]) -> Iterator[tuple[str, str]]:
    """Yield whether test items were among the rows of each stage, where that was looked into."""
    for planned in chain:
        said = "" if planned.artifact is None else test_items_found(planned.artifact.metrics)
        if said:
            yield f"test items in the data of {planned.name}", said


def _comparisons(plan: Plan, name: str) -> Iterator[dict[str, Any]]:
    """Yield the recipe's finished comparisons in which a stage or an evaluation of it takes part.

    A model's name in a comparison is the one that it had then; its place in the list is sure.
    """
    for planned in plan.stages:
        if planned.kind != "compare" or planned.artifact is None:
            continue
        config: Any = planned.config
        entrants = [
            _asked_stage(plan, entrant) for entrant in (config.baseline, *config.candidates)
        ]
        if name not in entrants:
            continue
        comparison = read_comparison(planned.artifact)
        ours = comparison.models[entrants.index(name)]
        rows = [row for row in comparison.rows if row.model in (ours, comparison.baseline)]
        yield {
            "stage": planned.name,
            "baseline": without_places(comparison.baseline),
            "rows": [_row(row) for row in rows],
            "own": [row for row in rows if row.model == ours],
        }


def _asked_stage(plan: Plan, entrant: str) -> str | None:
    """Return the stage whose model takes part: the entrant itself, or the one that it evaluated."""
    names = {planned.name: planned for planned in plan.stages}
    planned = names.get(entrant.removeprefix("$")) if entrant.startswith("$") else None
    if planned is None or planned.kind != "evaluate":
        return planned.name if planned else None
    model: str = cast("Any", planned.config).model
    return model.removeprefix("$") if model.startswith("$") else None


def _gguf_row(file: GgufFile) -> Sequence[str]:
    found = file.agreement
    size = f"{file.written.size_bytes / 1e6:,.1f} MB"
    if found is None:
        return [f"`{file.name}`", size, "not tried", "", "", ""]
    return [
        f"`{file.name}`",
        size,
        f"{found.equal} of {found.prompts} [{found.equal_low:.3f}, {found.equal_high:.3f}]",
        f"{found.same_tokens:,} of {found.tokens:,}",
        _figure(found.loss, found.loss_low, found.loss_high, digits=4),
        _figure(found.widest, digits=4),
    ]


def _row(row: Row) -> Sequence[str]:
    digits = digits_of(row.metric)
    how = row.form if row.style == "none" else f"{row.form}, {row.style}"
    how += f", window {row.window}" if row.window else ""
    return [
        str(without_places(row.task)),
        row.metric.replace("_", " "),
        str(without_places(row.model)),
        how,
        str(row.n),
        _figure(row.score, row.low, row.high, digits=digits),
        _figure(row.delta, row.delta_low, row.delta_high, digits=digits, sign="+"),
    ]


def _figure(
    value: float | None,
    low: float | None = None,
    high: float | None = None,
    *,
    digits: int = 2,
    sign: str = "",
) -> str:
    """Return a number with its interval; empty where nothing was measured."""
    if value is None:
        return ""
    said = f"{value:{sign}.{digits}f}"
    if low is None or high is None:
        return said
    return f"{said} [{low:{sign}.{digits}f}, {high:{sign}.{digits}f}]"


def versions_text(provenance: Mapping[str, Any]) -> str:
    """Return the libraries that made the weights; of an adopted model they are not known."""
    execution = provenance.get("execution")
    if execution is None:
        return "It was trained elsewhere: versions are not known"
    versions = {"posttrain": provenance["posttrain"], "Python": execution["python"]}
    return ", ".join(f"{key} {value}" for key, value in (versions | execution["versions"]).items())
