"""A recipe's stage made into a trainer on rollouts: prompts, models, reward terms, what watches it.

Not what may be asked (config.py), not the models (actors.py), and not the training. It resolves
names to modules and functions; the trainer composes them.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from pipeline.config.reward_terms import ALL_TASKS
from pipeline.config.user_code import load_object
from pipeline.data.reading.data_blocks import tasks_of
from pipeline.errors import PosttrainError
from pipeline.models.chat_templates import give_known_template
from pipeline.models.forms import form_of_model
from pipeline.models.load import load_tokenizer
from pipeline.rewards.ensemble import ensemble_term, scales_of
from pipeline.rewards.exams import examine_terms
from pipeline.rewards.judge import judge_term, load_judge
from pipeline.rewards.terms import RewardTerm, function_term, model_term, verifier_term
from pipeline.rl.judging import JudgeCounts
from pipeline.rl.teacher import least_positions
from pipeline.rl.watch import Watch
from pipeline.stages.rl.asked import Asking
from pipeline.stages.rl.engine import engine_fields, gaps_of
from pipeline.tools.use import load_tools, tool_settings
from pipeline.training.arguments import arguments, refusals
from pipeline.training.precision import autocast_of

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from contextlib import AbstractContextManager

    from transformers import PreTrainedTokenizerBase

    from eval.model import Form
    from eval.task import Task
    from eval.tools.tool import Tool
    from pipeline.config.reward_terms import RewardBlock
    from pipeline.config.stage import Stage, StageContext, StageInput
    from pipeline.rl.actor import Actor
    from pipeline.rl.config.base import RolloutConfig
    from pipeline.rl.prompts import Prompt
    from pipeline.rl.trainer import RolloutTrainer
    from reward.judges.judge import Judge

    LoadActor = Callable[[Any, StageContext, StageInput, Any], tuple[Actor, dict[str, Any]]]


@dataclass(frozen=True)
class Assembly:
    """A stage that is ready to train.

    held_out: prompts that training never sees. tasks: by the source of the prompts that are theirs.
    judges: what counts them. probed: the rewards that are probed, each with the positions of the
    model that it reads with, None for no limit. metrics: of the prompts, and the exams.
    """

    trainer: RolloutTrainer
    watch: Watch
    source: StageInput
    tokenizer: PreTrainedTokenizerBase
    form: Form
    held_out: list[Prompt]
    tasks: dict[str, Task]
    judges: JudgeCounts
    probed: dict[str, int | None]
    metrics: dict[str, Any]


def assemble(
    config: Any,
    context: StageContext,
    stage: Stage,
    arguments_of: type[RolloutConfig],
    trainer_of: Callable[..., RolloutTrainer],
    load: LoadActor,
    **parts: Any,
) -> Assembly:
    """Load and check everything; raises PosttrainError before any step is trained.

    config: a RolloutStage. arguments_of, trainer_of: of its method. load: returns what is trained,
    and the reward models by the recipe's name. parts: what the trainer is made of beside.
    """
    judges, licences = _examine(config, context)
    source = context.model(config.model)
    tokenizer = load_tokenizer(source)
    template = give_known_template(tokenizer, config, context)
    args: RolloutConfig = arguments(
        arguments_of,
        config,
        context,
        defaults=stage.defaults(config),
        forced={**config.trainer_fields(), **engine_fields(config, context)},
    )
    form = form_of_model(tokenizer, source.properties)
    tools = _load_tools(config, context, form)
    told = tool_settings(tools, tokenizer)
    actor, modules = load(config, context, source, args)
    positions = least_positions(actor.causal, parts.get("teacher_model"))
    asking = Asking(config, context, stage, args, tokenizer, positions, form, told.tools)
    asked = asking.read()
    tasks = tasks_of((*config.asked, *config.eval_data), context.places)
    autocast = autocast_of(args)
    terms = [
        _make_term(term, modules, judges, tokenizer, tasks, context, autocast=autocast)
        for term in config.reward
    ]
    probed = _positions_of_probed(config, modules)
    watch = _make_watch(config, context, tasks, list(probed))
    with refusals(context):
        trainer = trainer_of(
            model=actor,
            reward_funcs=terms,
            args=args,
            train_dataset=asked.trained,
            eval_dataset=asked.evaluated if len(asked.evaluated) else None,
            processing_class=tokenizer,
            on_rollout=watch,
            on_evaluation=watch.on_evaluation,
            on_sign=watch.on_sign,
            **({"tools": tools} if tools else {}),
            **parts,
        )
    ledgers = {name: judge.ledger for name, judge in judges.items()}
    watch.judges = counts = JudgeCounts(ledgers, trainer.rl)
    metrics = {**asked.metrics, **template.metrics(), **licences}
    apart = asked.held_out
    return Assembly(trainer, watch, source, tokenizer, form, apart, tasks, counts, probed, metrics)


def _examine(config: Any, context: StageContext) -> tuple[dict[str, Any], dict[str, Any]]:
    """Return the judges by their terms' names, and the exams of all rewards as metrics."""
    judges = {
        term.label: load_judge(term.label, term.judge, context)
        for term in config.reward
        if term.judge
    }
    licences = examine_terms(
        config.reward,
        {block.label: block.task for block in config.asked},
        context,
        lambda term: judges[term.label],
        is_gated=config.reward_gate == "on",
    )
    return judges, licences


def _load_tools(config: Any, context: StageContext, form: Form) -> list[Tool]:
    """Return the tools of a stage; PosttrainError for a model that continues documents."""
    if config.tools and form == "document":
        message = f"`{config.model}` continues documents, and tools are called in a chat"
        raise PosttrainError(context.name, message, "train a chat model, or leave `tools` out")
    return load_tools(config.tools, context.places)


def _positions_of_probed(config: Any, modules: Mapping[str, Any]) -> dict[str, int | None]:
    """Return the terms that models give scores by, each with the positions that these have."""
    probed: dict[str, int | None] = {}
    for term in config.reward:
        if term.weight and (term.models or term.judge is not None):
            configs = [modules[model].config.get_text_config() for model in term.models]
            found = [getattr(one, "max_position_embeddings", None) for one in configs]
            probed[term.label] = min((one for one in found if one is not None), default=None)
    return probed


def _make_watch(
    config: Any, context: StageContext, tasks: Mapping[str, Task], probed: Sequence[str]
) -> Watch:
    """Return what watches the training: gold scores, samples, and the gate of reward models."""
    is_gated = config.reward_gate == "on" and bool(config.reward)
    return Watch(
        context.name,
        context.out,
        tasks if config.gold else {},
        gated=[term.label if term.models else "" for term in config.reward] if is_gated else None,
        probed=probed,
        seed=context.seed,
        is_main=context.is_main,
        say=context.say,
        gaps=gaps_of(config, context),
    )


def _make_term(
    block: RewardBlock,
    modules: Mapping[str, Any],
    judges: Mapping[str, Judge],
    tokenizer: PreTrainedTokenizerBase,
    tasks: Mapping[str, Task],
    context: StageContext,
    *,
    autocast: Callable[[], AbstractContextManager[Any]],
) -> RewardTerm:
    """Return one term of the reward."""
    on = frozenset(block.on) if block.on else None
    try:
        if block.models:
            members = [
                model_term(
                    modules[model],
                    load_tokenizer(context.model(model)),
                    name,
                    block.weight,
                    policy_tokenizer=tokenizer,
                    on=on,
                    autocast=autocast,
                )
                for model, name in zip(block.models, block.model_names, strict=True)
            ]
            if not block.is_ensemble:
                return members[0]
            scales = scales_of(block, context)
            return ensemble_term(members, scales, block.ensemble, block.label, block.weight)
        if block.judge is not None:
            return judge_term(judges[block.label], block.label, block.weight, on=on)
        if block.use is not None:
            function = load_object(block.use, context.places.base)
            return function_term(function, block.label, block.weight, on=on)
        verified = block.verify or ()
        names = tasks if verified == (ALL_TASKS,) else verified
        return verifier_term({name: tasks[name] for name in names}, block.label, block.weight)
    except ValueError as error:
        raise PosttrainError(context.name, str(error)) from error
