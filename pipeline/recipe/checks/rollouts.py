"""What can be known to be wrong with a stage that learns from rewards, before a model is read.

Every prompt needs a reward and every reward its prompts, a user's function must exist, a critic
needs something to start from, and policy, critic, groups and lengths must fit together.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from pipeline.config.distill_arguments import together_problem
from pipeline.config.references import HubModel, StageOutput, model_source
from pipeline.config.reward_signature import check_reward_function
from pipeline.data.reading.tasks import load_task
from pipeline.errors import PosttrainError, closest
from pipeline.files.names import VALUE_HEAD
from pipeline.recipe.checks.licences import check_judge
from pipeline.recipe.checks.reward_model import check_reward_models
from pipeline.recipe.checks.rollout_engine import check_rollout_engine
from pipeline.recipe.checks.signs import check_signs
from pipeline.recipe.checks.training import MORE_POSITIONS
from pipeline.recipe.model_facts import num_positions
from pipeline.recipe.trainer_arguments import trainer_arguments
from pipeline.stages import stage_of

if TYPE_CHECKING:
    from pipeline.config.reward_terms import RewardBlock
    from pipeline.recipe.messages import Location
    from pipeline.recipe.recipe import Recipe
    from pipeline.stages.rl.config import RolloutStage
    from pipeline.stages.rl.ppo_config import PpoConfig

_VERIFIED = "verified_accuracy"


def check_rollouts(recipe: Recipe, name: str) -> None:
    """Raise PosttrainError, with its place, for the first thing that is wrong with such a stage.

    Stages of a different kind have nothing to check. Tasks that cannot be loaded are left to
    whoever loads them.
    """
    config = recipe.stages[name]
    if stage_of(config.stage).data_forms != ("prompt",):  # imports less than the class does
        return
    from pipeline.stages.rl.config import RolloutStage
    from pipeline.stages.rl.ppo_config import PpoConfig

    if not isinstance(config, RolloutStage):
        return
    checks = _Checks(recipe, ("stages", name), config)
    checks.check_prompts()
    for number, term in enumerate(config.reward):
        checks.check_reward(("reward", number), term)
    if config.reward:
        checks.check_every_prompt_has_a_reward()
    if isinstance(config, PpoConfig):
        checks.check_critic(config)
        checks.check_layout(config)
    checks.check_adapter()
    checks.check_lengths()
    checks.check_groups()
    checks.check_steps()
    checks.check_teacher()
    checks.check_stopping()
    checks.check_engine()


class _Checks:
    """The checks of one stage."""

    def __init__(self, recipe: Recipe, stage: Location, config: RolloutStage) -> None:
        self._recipe = recipe
        self._stage = stage
        self._config = config
        every = (*config.asked, *config.eval_data)
        self._sources = list(dict.fromkeys(block.label for block in every))
        self._tasks = [block.task for block in every if block.task is not None]

    def _error(self, place: Location, message: str, hint: str = "") -> PosttrainError:
        return self._recipe.error((*self._stage, *place), message, hint)

    def check_engine(self) -> None:
        """Refuse what the engine that samples does not do."""
        check_rollout_engine(self._recipe, self._config, self._error)

    def check_stopping(self) -> None:
        """Refuse a sign that is to stop training and could never show."""
        check_signs(self._config, self._error)

    def check_prompts(self) -> None:
        """Refuse blocks that name a form other than prompts."""
        for number, block in enumerate(self._config.prompts):
            if block.form not in (None, "prompt"):
                message = f"`form` {block.form} is not what this stage reads"
                hint = "leave it out; `columns: {prompt: THEIRS}` names the prompt"
                raise self._error(("prompts", number, "form"), message, hint)

    def check_reward(self, place: Location, term: RewardBlock) -> None:
        """Refuse a term that names something missing, or has the name of an earlier term."""
        if term.use is not None:
            try:
                check_reward_function(term.use, self._recipe.places.base)
            except ValueError as error:
                raise self._error((*place, "use"), str(error)) from error
        check_reward_models(self._recipe, (*self._stage, *place), term)
        if "on" in term.model_fields_set and not term.on:
            hint = "name sources of the prompts, or leave it out for all"
            raise self._error((*place, "on"), "`on` is empty", hint)
        for number, source in enumerate(term.on):
            self._check_source((*place, "on", number), source)
        self._check_verified(place, term)
        if term.judge is not None and term.weight:
            asked = [block for block in self._config.asked if block.task is not None]
            tasks = [block.task or "" for block in asked if term.is_for(block.label, ())]
            location = (*self._stage, *place, "judge")
            check_judge(self._recipe, location, term.label, term.judge, tasks)
        earlier = [one.label for one in self._config.reward[: int(place[-1])]]
        if term.label in earlier:
            message = f"two rewards are called `{term.label}`"
            raise self._error(place, message, "give one of them another `name`")

    def _check_source(self, place: Location, source: str) -> None:
        if source not in self._sources:
            hint = closest(source, self._sources) or f"there are {', '.join(self._sources)}"
            raise self._error(place, f"`{source}` is no source of these prompts", hint)

    def _check_verified(self, place: Location, term: RewardBlock) -> None:
        from pipeline.config.reward_terms import ALL_TASKS

        if term.verify and not self._tasks:
            message = "none of the prompts is a task's, so there is nothing to verify"
            hint = "write `{task: NAME}` in `prompts`, or another reward"
            raise self._error((*place, "verify"), message, hint)
        if term.verify == (ALL_TASKS,):
            for number, block in enumerate(self._config.prompts):
                if block.task is not None:
                    self._check_verifier(("prompts", number, "task"), block.task)
            return
        for number, task in enumerate(term.verify):
            if task not in self._tasks:
                hint = closest(task, self._tasks) or f"there are {', '.join(self._tasks)}"
                message = f"`{task}` is no task of these prompts"
                raise self._error((*place, "verify", number), message, hint)
            self._check_verifier((*place, "verify", number), task)

    def _check_verifier(self, place: Location, name: str) -> None:
        try:
            task = load_task(name, self._recipe.places)
        except ValueError:
            return
        if _VERIFIED not in task.metrics:
            raise self._error(place, f"the task `{name}` verifies no responses", "leave it out")

    def check_every_prompt_has_a_reward(self) -> None:
        """Refuse prompts whose responses nothing would reward."""
        for field in ("prompts", "eval_data"):
            for number, block in enumerate(getattr(self._config, field)):
                if not any(_is_for(term, block.label, block.task) for term in self._config.reward):
                    message = f"no reward is for the prompts of `{block.label}`"
                    hint = "add one to `reward`, or name them in the `on` of one"
                    raise self._error((field, number), message, hint)

    def check_critic(self, config: PpoConfig) -> None:
        """Refuse a critic that cannot be started from, since it does not exist."""
        place = ("critic",)
        try:
            start = config.critic_source
        except ValueError as error:
            hint = "write `critic: policy`, or leave it out"
            raise self._error(place, str(error), hint) from error
        if config.critic in (None, "reward", "policy"):
            return  # a reward model is checked where it stands
        try:
            source = model_source(start, self._recipe.places)
        except ValueError:
            return
        if isinstance(source, StageOutput):
            stage = self._recipe.stages[source.name]
            if stage_of(stage.stage).produces == "policy" and stage.stage != "ppo":
                message = f"`{start}` has no critic, it is of the kind {stage.stage}"
                hint = "write `policy`, `reward`, a ppo stage or a reward model's"
                raise self._error(place, message, hint)
        elif isinstance(source, HubModel):
            message = f"`{start}` is a hub id; a critic is a stage's or lies in a folder"
            raise self._error(place, message, "write `policy`, `reward`, a stage or a folder")
        elif not any((source.path / folder / VALUE_HEAD).is_file() for folder in (".", "critic")):
            message = f"the folder `{start}` holds no critic: it has no {VALUE_HEAD}"
            raise self._error(place, message, "write `policy`, `reward` or a ppo stage's folder")

    def check_layout(self, config: PpoConfig) -> None:
        """Refuse a critic and an adapter that the layout has no place for."""
        layout = config.training_args.get("layout", "auto")
        place = ("training_args", "layout")
        if layout == "shared_lora" and config.lora is None:
            message = "`layout: shared_lora` trains adapters, and there is no `lora`"
            raise self._error(place, message, "write `lora: {r: 16}` on the stage")
        if layout == "shared_trunk" and config.critic not in (None, "policy"):
            message = "with `layout: shared_trunk` the critic is a head on the policy's network"
            raise self._error(("critic",), message, "write `critic: policy`, or leave it out")

    def check_adapter(self) -> None:
        """Refuse an adapter that changes the reference, or what log-probabilities are made of."""
        config = self._config
        if config.lora is None:
            return
        fields = config.lora.fields()
        if fields.get("bias", "none") != "none":
            message = f"`bias` {fields['bias']} changes the network that the reference shares"
            raise self._error(("lora", "bias"), message, "leave it out")
        targets: list[Any] = [fields["target_modules"], fields.get("modules_to_save")]
        named = [module for some in targets if isinstance(some, list) for module in some]  # pyright: ignore[reportUnknownVariableType]
        if "lm_head" in named:
            message = "an adapter on `lm_head` has no place in these log-probabilities"
            raise self._error(("lora",), message, "take `lm_head` out of the adapter")

    def check_lengths(self) -> None:
        """Refuse prompts and responses that are longer than the model has positions."""
        config = self._config
        arguments = trainer_arguments(self._recipe, config)
        limit = self._positions()
        prompt, response = arguments.get("max_prompt_length"), arguments["max_completion_length"]
        least = 1 if prompt is None else prompt
        if limit is None or not isinstance(least, int) or least + response <= limit:
            return
        stated = f"`max_completion_length` {response}"
        stated += "" if prompt is None else f" after `max_prompt_length` {prompt}"
        message = f"{stated} is beyond the {limit} positions of `{config.model}`"
        hint = "lower it"
        hint += f", or {MORE_POSITIONS}" if config.model.startswith("$") else ""
        raise self._error(("training_args", "max_completion_length"), message, hint)

    def _positions(self) -> int | None:
        """Return how many tokens policy and teacher can read, as far as it is known."""
        names = [self._config.model, getattr(self._config, "teacher", None)]
        known = [num_positions(self._recipe, name) for name in names if name is not None]
        return min((limit for limit in known if limit is not None), default=None)

    def check_groups(self) -> None:
        """Refuse rollouts that are not whole steps of whole groups, and groups of one."""
        arguments = {**stage_of(self._config.stage).defaults(self._config)}
        arguments |= self._config.training_args
        schedule, batch = self._config.schedule(arguments), self._config.batch_size
        is_given = arguments.get("generation_batch_size") is not None
        place = ("training_args", "generation_batch_size") if is_given else ("batch_size",)
        of_group: Location = ("training_args", "num_generations")
        if "num_generations" in arguments and self._config.reward and schedule.group_size < 2:
            message = f"`num_generations` {schedule.group_size} compares nothing"
            raise self._error(of_group, message, "write 2 or more")
        if not self._config.reward and schedule.group_size > 1:
            message = f"`num_generations` {schedule.group_size} is to compare rewards"
            raise self._error(of_group, message, "leave it out, or write a `reward`")
        if schedule.responses % batch:
            message = f"`generation_batch_size` {schedule.responses} is no multiple of `batch_size`"
            raise self._error(place, message, f"a step has {batch} responses")
        if schedule.responses % schedule.group_size:
            stated = "`generation_batch_size`" if is_given else "`batch_size`"
            message = f"{stated} {schedule.responses} holds no whole number of groups"
            hint = f"write a multiple of `num_generations` {schedule.group_size}"
            raise self._error(place, message, hint)

    def check_teacher(self) -> None:
        """Refuse what a distillation's arguments have no place for, and a teacher of rewards."""
        config = self._config
        reference = getattr(config, "teacher", None)
        if reference is None:
            return
        arguments = {**stage_of(config.stage).defaults(config), **config.training_args}
        if "data" in config.model_fields_set:
            arguments.setdefault("lmbda", 0.0)
        elif arguments.get("lmbda", 1) < 1:
            message = "`lmbda` below 1 takes rows' own responses, and `prompts` have none"
            raise self._error(("training_args", "lmbda"), message, "write `data`, or leave it out")
        problem = together_problem(arguments)
        if problem:
            raise self._error(("training_args", problem[0]), *problem[1:])
        if reference == config.model:
            message = "the teacher is the student itself"
            raise self._error(("teacher",), message, "name another model")

    def check_steps(self) -> None:
        """Refuse less than one rollout, and a critic warm-up that leaves none for the policy."""
        config = self._config
        arguments = {**stage_of(config.stage).defaults(config), **config.training_args}
        schedule = config.schedule(arguments)
        per_rollout = schedule.steps
        steps, warmup = arguments.get("max_steps", -1), arguments.get("critic_warmup_rollouts", 0)
        place = ("training_args", "max_steps")
        if 0 < steps < per_rollout:
            message = f"`max_steps` {steps} is below the {per_rollout} steps of one rollout"
            hint = f"{' x '.join(schedule.keys)}; write {per_rollout} or a multiple of it"
            raise self._error(place, message, hint)
        if 0 < steps <= warmup * per_rollout:
            message = f"`max_steps` {steps} is over before the policy is trained"
            hint = f"the critic's warm-up alone takes {warmup * per_rollout} steps"
            raise self._error(place, message, hint)
        episodes = arguments.get("total_episodes")
        rollouts = -(-(episodes or 0) // schedule.responses)
        if steps <= 0 and 0 < rollouts <= warmup:
            message = f"`total_episodes` {episodes} is over before the policy is trained"
            hint = f"the critic's warm-up alone takes {warmup} of its {rollouts} rollouts"
            raise self._error(("training_args", "total_episodes"), message, hint)


def _is_for(term: RewardBlock, source: str, task: str | None) -> bool:
    """Whether a term applies to the prompts of a source."""
    from pipeline.config.reward_terms import ALL_TASKS

    if term.verify:
        return task is not None and (term.verify == (ALL_TASKS,) or task in term.verify)
    return not term.on or source in term.on
