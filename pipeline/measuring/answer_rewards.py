"""Reward terms that score answers which nobody learns from: functions, models, verifiers, judges.

A reward model reads prompt and answer in its own template and tokens, whatever the policy's are: it
judges a text here. (In training it reads the sampled tokens: see pipeline/rewards/terms.py.)
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from eval.comparison.free_form import ALL_REWARDS
from pipeline.config.user_code import load_object
from pipeline.data.encoding.passages import write_transcript
from pipeline.data.reading.records import Message
from pipeline.data.reading.shown_prompts import show_prompt
from pipeline.errors import InfrastructureError, PosttrainError
from pipeline.rewards import event_loop
from pipeline.rewards.composition import RewardComposition
from pipeline.rewards.ensemble import combine, scales_of, spreads
from pipeline.rewards.judge import load_judge, refuse_failures
from pipeline.rewards.reads_texts import Answered, TextScorer
from pipeline.rewards.responses import REFERENCE, Responses
from pipeline.rewards.terms import function_term
from reward.judges.exchange import NoReply
from reward.sandbox import SandboxUnavailable

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence

    from eval.task import Task
    from pipeline.config.judge import JudgeBlock
    from pipeline.config.reward_terms import Ensemble, RewardBlock
    from pipeline.config.stage import StageContext
    from pipeline.data.reading.records import PromptRow
    from reward.judges.judge import Judge
    from reward.judges.ledger import Ledger


@dataclass(frozen=True)
class Answers:
    """Answers to the prompts of one source, each with the row that it answers.

    prompts: as the model was asked, a text or messages. prompt_ids, token_ids: as it read and wrote
    them. has_ended: whether the answer ended itself.
    """

    source: str
    rows: Sequence[PromptRow]
    prompts: Sequence[str | list[dict[str, Any]]]
    texts: Sequence[str]
    prompt_ids: Sequence[list[int]]
    token_ids: Sequence[list[int]]
    has_ended: Sequence[bool]


class AnswerRewards:
    """The rewards of a stage that scores answers; models are loaded once, when first asked.

    tasks: those among the prompts, by source. ledgers: of the judges that were asked, by name.
    spreads: of the answers that were scored last, by ensemble, how far its members lie apart.
    """

    def __init__(
        self, rewards: Sequence[RewardBlock], tasks: Mapping[str, Task], context: StageContext
    ) -> None:
        self._rewards = rewards
        self._context = context
        self._tasks = tasks
        self.ledgers: dict[str, Ledger] = {}
        self._judges: dict[str, Judge] = {}
        self.spreads: dict[str, list[float | None]] = {}
        self._made: dict[str, Callable[[Answers], list[float | None]]] = {}

    def score(self, answers: Answers, name: str | None = None) -> dict[str, list[float | None]]:
        """Return the scores of the answers, by the name of the reward that is for these prompts.

        Of several rewards their weighted sum, too. None where a reward has no say. name: of the
        only reward that is asked; by default all.
        """
        scores: dict[str, list[float | None]] = {}
        rewards = [
            reward
            for reward in self._rewards
            if name in (None, reward.label) and reward.is_for(answers.source, self._tasks)
        ]
        for reward in rewards:
            scores[reward.label] = self._scorer(reward)(answers)
        if len(rewards) > 1:
            scores[ALL_REWARDS] = [
                weighted_sum((reward.weight, scores[reward.label][number]) for reward in rewards)
                for number in range(len(answers.texts))
            ]
        return scores

    def judge(self, name: str, block: JudgeBlock) -> Judge:
        """Return the judge of a term, loaded once."""
        if name not in self._judges:
            self._judges[name] = load_judge(name, block, self._context)
            self.ledgers[name] = self._judges[name].ledger
        return self._judges[name]

    def _scorer(self, reward: RewardBlock) -> Callable[[Answers], list[float | None]]:
        if reward.label not in self._made:
            self._made[reward.label] = self._load(reward)
        return self._made[reward.label]

    def _load(self, reward: RewardBlock) -> Callable[[Answers], list[float | None]]:
        if reward.verify:
            return lambda answers: _verify(self._tasks[answers.source], answers, self._context)
        if reward.is_ensemble:
            return _ByEnsemble(reward, self._context, self.spreads)
        if reward.models:
            return _ByModel(reward.models[0], self._context)
        if reward.judge is not None:
            return self._by_judge(reward.label, reward.judge)
        try:
            function = load_object(reward.use or "", self._context.places.base)
            term = function_term(function, reward.label)
        except ValueError as error:
            raise PosttrainError(self._context.name, str(error)) from error
        composition = RewardComposition([term])

        def by_function(answers: Answers) -> list[float | None]:
            values = composition.raw(_responses(answers))[:, 0].tolist()
            return [None if math.isnan(value) else value for value in values]

        return by_function

    def _by_judge(self, name: str, block: JudgeBlock) -> Callable[[Answers], list[float | None]]:
        """Return what has answers scored by a rubric; None where the judge gives no answer."""
        judge = self.judge(name, block)
        where = f"{self._context.name}: judge `{name}`"

        def by_judge(answers: Answers) -> list[float | None]:
            items = list(zip(map(show_prompt, answers.rows), answers.texts, strict=True))
            said = event_loop.run(judge.score(items), self._context.should_stop)
            refuse_failures(where, said)
            return [None if isinstance(score, NoReply) else score.value for score in said]

        return by_judge


def weighted_sum(said: Iterable[tuple[float, float | None]]) -> float | None:
    """Return the sum of what rewards say, each by its weight; None where none has a say.

    A reward of weight 0 is only shown, unless all are; as `RewardComposition.weigh` has it.
    """
    terms = list(said)
    counted = [term for term in terms if term[0]] or terms
    values = [weight * value for weight, value in counted if value is not None]
    return sum(values) if values else None


class _ByModel:
    """A reward model that reads texts."""

    def __init__(self, reference: str, context: StageContext) -> None:
        self._scorer = TextScorer(context.model(reference))

    def __call__(self, answers: Answers) -> list[float | None]:
        ids = [self._ids(row, text) for row, text in zip(answers.rows, answers.texts, strict=True)]
        fitting = [
            number
            for number, sequence in enumerate(ids)
            if sequence and not self._scorer.is_too_long(sequence)
        ]
        scores = self._scorer.scores([ids[number] for number in fitting])
        values: list[float | None] = [None] * len(ids)
        for number, score in zip(fitting, scores, strict=True):
            values[number] = score
        return values

    def _ids(self, row: PromptRow, text: str) -> list[int]:
        """Return prompt and answer as the reward model was trained on them; none if it cannot."""
        if row.messages and self._scorer.has_template:
            answered = Answered(
                row.where, row.messages, Message("assistant", text), settings=row.settings
            )
            try:
                return self._scorer.encode([answered])[0].ids
            except PosttrainError:  # the template does not take this answer
                return []
        before = row.text if row.text is not None else write_transcript(row.messages)
        answered = Answered(row.where, (), Message("assistant", text), (before, text))
        return self._scorer.encode([answered])[0].ids


class _ByEnsemble:
    """Several reward models that read texts; None where one of them has no say.

    noted: takes the spread of each answer under the reward's name.
    """

    def __init__(
        self,
        reward: RewardBlock,
        context: StageContext,
        noted: dict[str, list[float | None]],
    ) -> None:
        self._members = [_ByModel(model, context) for model in reward.models]
        self._scales = scales_of(reward, context)
        self._how: Ensemble = reward.ensemble
        self._name, self._noted = reward.label, noted

    def __call__(self, answers: Answers) -> list[float | None]:
        said = [member(answers) for member in self._members]
        known = [n for n in range(len(answers.texts)) if None not in [each[n] for each in said]]
        standardised = [
            scale.standardise([value for n in known if (value := each[n]) is not None])
            for scale, each in zip(self._scales, said, strict=True)
        ]
        values: list[float | None] = [None] * len(answers.texts)
        apart = list(values)
        combined = combine(standardised, self._how)
        for number, value, spread in zip(known, combined, spreads(standardised), strict=True):
            values[number], apart[number] = value, spread
        self._noted[self._name] = apart
        return values


def _verify(task: Task, answers: Answers, context: StageContext) -> list[float | None]:
    scores: list[float | None] = []
    try:
        for row, text in zip(answers.rows, answers.texts, strict=True):
            reference = row.columns.get(REFERENCE)
            is_known = isinstance(reference, str)
            scores.append(task.verify(text, reference).score if is_known else None)
    except SandboxUnavailable as error:
        raise InfrastructureError(context.name, str(error)) from error
    return scores


def _responses(answers: Answers) -> Responses:
    """Return answers as reward functions get them; a column that a row lacks is None."""
    names = list(dict.fromkeys(name for row in answers.rows for name in row.columns))
    columns: Mapping[str, list[Any]] = {
        name: [row.columns.get(name) for row in answers.rows] for name in names
    }
    completions = [
        text if isinstance(prompt, str) else [{"role": "assistant", "content": text}]
        for prompt, text in zip(answers.prompts, answers.texts, strict=True)
    ]
    return Responses(
        answers.prompts,
        completions,
        answers.prompt_ids,
        answers.token_ids,
        answers.has_ended,
        columns,
    )
