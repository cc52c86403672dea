"""A recipe's `ppo` stage made into a PPOTrainer: prompts, models, reward terms, what watches it.

Not what may be asked (config.py), and not the training. It resolves names to modules and functions;
PPOTrainer composes them.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from eval.model import positions_of
from pipeline.config.reward_terms import ALL_TASKS
from pipeline.config.stage import StageInput
from pipeline.config.user_code import load_object
from pipeline.data.encoding.lengths import prompt_limit
from pipeline.data.encoding.prompts import encode_prompts
from pipeline.data.mixing import mix_rows, share_metrics
from pipeline.data.reading.data_blocks import read_held_out_prompts, read_held_out_records, tasks_of
from pipeline.data.training_sources import row_sources
from pipeline.errors import PosttrainError
from pipeline.files.names import CONFIG
from pipeline.models import adapters
from pipeline.models.chat_templates import give_known_template
from pipeline.models.forms import form_of_model
from pipeline.models.frozen import keep_frozen
from pipeline.models.load import base_of, load_policy, load_tokenizer, on_device
from pipeline.models.reward import load_reward_model, padding_for_rewards
from pipeline.models.training import load_for_training, peft_config
from pipeline.rewards.responses import ORIGIN
from pipeline.rewards.terms import RewardTerm, function_term, model_term, verifier_term
from pipeline.rl.build import Start, add_adapter, build_actor_critic
from pipeline.rl.config import PPOConfig
from pipeline.rl.critic_start import (
    CriticStart,
    find_saved_critic,
    has_adapter,
    start_from_reward_model,
)
from pipeline.rl.layouts.shared_lora import SharedLoraActorCritic
from pipeline.rl.prompts import Prompt
from pipeline.rl.ranking_check import check_ranking
from pipeline.rl.shared_rewards import SharedReward, read_shared_adapter, read_shared_reward
from pipeline.rl.trainer import PPOTrainer
from pipeline.rl.watch import Watch
from pipeline.training.arguments import arguments, refusals
from pipeline.training.precision import autocast_of, dtype_of

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from contextlib import AbstractContextManager

    from transformers import PreTrainedTokenizerBase

    from eval.model import Form
    from eval.task import Task
    from pipeline.config.reward_terms import RewardBlock
    from pipeline.config.stage import Stage, StageContext
    from pipeline.data.encoding.prompts import EncodedPrompt
    from pipeline.rl.actor_critic import ActorCritic
    from pipeline.stages.ppo.config import PpoConfig

_HELD_OUT_PROMPTS = 128  # of all sources together


@dataclass(frozen=True)
class Assembly:
    """A stage that is ready to train.

    held_out: prompts that training never sees. tasks: by the source of the prompts that are theirs.
    metrics: of the prompts.
    """

    trainer: PPOTrainer
    watch: Watch
    source: StageInput
    tokenizer: PreTrainedTokenizerBase
    form: Form
    held_out: list[Prompt]
    tasks: dict[str, Task]
    metrics: dict[str, Any]


def assemble(config: PpoConfig, context: StageContext, stage: Stage) -> Assembly:
    """Load and check everything; raises PosttrainError before any step is trained."""
    source = context.model(config.model)
    tokenizer = load_tokenizer(source)
    template = give_known_template(tokenizer, config, context)
    args: PPOConfig = arguments(
        PPOConfig,
        config,
        context,
        defaults=stage.defaults(config),
        forced=config.trainer_fields(),
    )
    form = form_of_model(tokenizer, source.properties)
    sources = row_sources(config.prompts, context.places, stage.data_forms, context.screen)
    rows, shares = mix_rows(sources, seed=context.seed)
    # What leaves no room for a response is dropped and counted, unless the recipe says more.
    actor, modules = _load_actor(config, context, source, args)
    positions = positions_of(actor.causal.config)
    room = None if positions is None else positions - args.max_completion_length
    limit = prompt_limit(config.too_long, args.max_prompt_length, room)
    encoded, report = encode_prompts(rows, tokenizer, limit=limit, form=form)
    report.refuse(context.name)
    apart = partial(encode_prompts, tokenizer=tokenizer, limit=limit, form=form, may_be_none=True)
    at_most = _HELD_OUT_PROMPTS // len(config.prompts)
    held_out, left_out = apart(
        read_held_out_prompts(config.prompts, context.places, at_most=at_most)
    )
    to_evaluate = held_out
    if config.eval_data:
        to_evaluate, left_out = apart(
            read_held_out_records(config, context.places, stage.data_forms)
        )
    tasks = tasks_of((*config.prompts, *config.eval_data), context.places)
    autocast = autocast_of(args)
    terms = [
        _make_term(term, modules, tokenizer, tasks, context, autocast=autocast)
        for term in config.reward
    ]
    is_gated = config.reward_gate == "on"
    watch = Watch(
        context.name,
        context.out,
        tasks if config.gold else {},
        gated=[term.label if term.model else "" for term in config.reward] if is_gated else None,
        is_main=context.is_main,
    )
    with refusals(context):
        trainer = PPOTrainer(
            model=actor,
            reward_funcs=terms,
            args=args,
            train_dataset=_rows(encoded),
            eval_dataset=_rows(to_evaluate) or None,
            processing_class=tokenizer,
            on_rollout=watch,
            on_evaluation=watch.on_evaluation,
        )
    return Assembly(
        trainer,
        watch,
        source,
        tokenizer,
        form,
        [Prompt(prompt.ids, prompt.prompt, _columns(prompt)) for prompt in held_out],
        tasks,
        {
            **report.metrics(),
            **left_out.held_out_metrics(),
            **share_metrics(shares, "prompts"),
            **template.metrics(),
        },
    )


def _rows(prompts: Sequence[EncodedPrompt]) -> list[dict[str, Any]]:
    return [
        {**_columns(prompt), "input_ids": prompt.ids, "prompt": prompt.prompt} for prompt in prompts
    ]


def _columns(prompt: EncodedPrompt) -> dict[str, Any]:
    """Return what reward functions are handed of a prompt, and where that is from."""
    return {**prompt.columns, ORIGIN: prompt.source}


def _load_actor(
    config: PpoConfig, context: StageContext, source: StageInput, args: PPOConfig
) -> tuple[ActorCritic, dict[str, Any]]:
    """Return policy, reference and critic, and the reward models by the recipe's name."""
    inputs = {name: context.model(name) for name in config.reward_models}
    if config.reward_gate == "on":
        for model in inputs.values():
            check_ranking(context.name, model.name, Path(model.path))
    adapter = peft_config(config, "CAUSAL_LM")
    can_share = adapter is not None and args.layout in ("auto", "shared_lora")
    shared = {
        name: reward
        for name, model in inputs.items()
        if can_share and (reward := read_shared_reward(model, source)) is not None
    }
    whole = {name: load_reward_model(model) for name, model in inputs.items() if name not in shared}
    begun = _start_critic(config, context, whole, shared)
    with refusals(context):
        policy = add_adapter(load_for_training(source, config), adapter)
        actor = build_actor_critic(Start(policy, begun), args)
    dtype = dtype_of(args)
    if dtype is not None:  # only now: a critic begins as one of them
        for module in whole.values():
            keep_frozen(module.requires_grad_(requires_grad=False), dtype)
    modules: dict[str, Any] = dict(whole)
    for number, (name, reward) in enumerate(shared.items()):
        if not isinstance(actor, SharedLoraActorCritic):  # the critic has a network of its own
            modules[name] = load_reward_model(inputs[name])
            continue
        pad = _padding_id(load_tokenizer(inputs[name]))
        modules[name] = reward.put_on(actor, f"reward{number}", pad)
    return actor, {name: on_device(module) for name, module in modules.items()}


def _start_critic(
    config: PpoConfig,
    context: StageContext,
    whole: Mapping[str, Any],
    shared: Mapping[str, SharedReward],
) -> CriticStart:
    """Return what the critic begins as."""
    source = config.critic_source
    if source == "policy":
        return CriticStart()
    terms = [number for number, term in enumerate(config.reward) if term.model == source]
    term = terms[0] if terms else None
    if source in shared:
        reward = shared[source]
        return CriticStart(adapter=(reward.config, reward.tensors), score=reward.score, term=term)
    model = context.model(source)
    if source in whole or model.kind == "reward_model" or _is_classifier(Path(model.path)):
        module = whole[source] if source in whole else load_reward_model(model)
        return start_from_reward_model(module, term)
    return _earlier_critic(config, context, model)


def _earlier_critic(config: PpoConfig, context: StageContext, model: StageInput) -> CriticStart:
    """Return the critic of an earlier ppo stage, or of a folder.

    As an adapter where it was one of what the policy is one of too, else as a network of its own.
    """
    try:
        folder = find_saved_critic(model.path)
    except ValueError as error:
        raise PosttrainError(context.name, str(error)) from error
    if not has_adapter(folder):
        return CriticStart(folder=folder)
    if folder == Path(model.path):  # the critic's own folder was named
        model = StageInput(model.name, "policy", str(folder))
    source = context.model(config.model)
    layout = config.training_args.get("layout", "auto")
    if config.lora is not None and layout in ("auto", "shared_lora"):
        adapter = read_shared_adapter(folder, model, source)
        if adapter is not None:
            return CriticStart(adapter=adapter, folder=folder)
    base = base_of(model)
    assert base is not None
    network = adapters.merge(load_policy(base), folder)
    return CriticStart(network=network.base_model, folder=folder)


def _make_term(
    block: RewardBlock,
    modules: Mapping[str, Any],
    tokenizer: PreTrainedTokenizerBase,
    tasks: Mapping[str, Task],
    context: StageContext,
    *,
    autocast: Callable[[], AbstractContextManager[Any]],
) -> RewardTerm:
    """Return one term of the reward."""
    on = frozenset(block.on) if block.on else None
    try:
        if block.model is not None:
            return model_term(
                modules[block.model],
                load_tokenizer(context.model(block.model)),
                block.label,
                block.weight,
                policy_tokenizer=tokenizer,
                on=on,
                autocast=autocast,
            )
        if block.use is not None:
            function = load_object(block.use, context.places.base)
            return function_term(function, block.label, block.weight, on=on)
        verified = block.verify or ()
        names = tasks if verified == (ALL_TASKS,) else verified
        return verifier_term({name: tasks[name] for name in names}, block.label, block.weight)
    except ValueError as error:
        raise PosttrainError(context.name, str(error)) from error


def _padding_id(tokenizer: PreTrainedTokenizerBase) -> int:
    number = tokenizer.convert_tokens_to_ids(padding_for_rewards(tokenizer))
    assert isinstance(number, int)
    return number


def _is_classifier(folder: Path) -> bool:
    """Whether a folder holds a sequence classifier."""
    path = folder / CONFIG
    if not path.is_file():
        return False
    names = json.loads(path.read_text(encoding="utf-8")).get("architectures") or [""]
    return str(names[0]).endswith("ForSequenceClassification")
