"""Puts one question, in one way, to a model: to write a response or to choose.

Which questions are put is `eval.asking.run`'s subject; texts are read in `eval.asking.passages`.
Imports no torch until a model is asked.
"""

import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import islice
from typing import TYPE_CHECKING

from eval.model import Form, LanguageModel, Turn
from eval.results import BITS_PER, ItemResult, Style, beside, grey_levels
from eval.task import STEP_BY_STEP, Example, Metric, Task

if TYPE_CHECKING:
    from eval.asking.sampler import Generation

Progress = Callable[[str, int, int], None]
Item = tuple[str, Example]  # an id of its own, and the example

NO_ROOM = "do not fit into"  # stands in the reason of an item whose prompt is too long

_WORKED_LENGTH = 2  # a worked answer may have this many times `Task.max_new_tokens`
_RESPONSES_FOR_RATIOS = 100  # of a question; two forward passes each


@dataclass(frozen=True)
class Question:
    """A task asked by one metric in one style, with demonstrations before it.

    demonstrations: the same for every item; an item that has siblings gets as many of these.
    """

    task: Task
    metric: Metric
    style: Style
    demonstrations: Sequence[Example]

    @property
    def shots(self) -> int:
        """How many demonstrations a prompt shows."""
        return len(self.demonstrations)

    @property
    def label(self) -> str:
        """What is being asked, for progress."""
        shots = f" {self.shots}" if self.shots else ""
        return f"{self.task.name}, {self.metric}, {self.style}{shots}"

    @property
    def is_worked(self) -> bool:
        """Whether steps are asked for before the answer."""
        return self.style == "chain-of-thought"

    @property
    def max_new_tokens(self) -> int:
        """How long a response may get."""
        return self.task.max_new_tokens * (_WORKED_LENGTH if self.is_worked else 1)

    def stop(self, form: Form) -> tuple[str, ...]:
        """Return the strings that end a response."""
        if form == "chat":
            return ()
        return self.task.worked_stop if self.is_worked else self.task.document_stop

    def shown(self, example: Example) -> Sequence[Example]:
        """Return the demonstrations before a question; ValueError where it has too few siblings."""
        if not example.siblings:
            return self.demonstrations
        if len(example.siblings) < self.shots:
            raise ValueError(
                f"item `{example.id}` of task `{self.task.name}` has {len(example.siblings)} "
                f"examples of its rule to show, not {self.shots}"
            )
        return example.siblings[: self.shots]

    def document(self, example: Example) -> str:
        """Return the question as the beginning of a document, after others that are whole."""
        shots = self.shown(example)
        if self.is_worked:
            between = self.task.worked_stop[0]
            shown = [f"{shot.worked_document}{shot.worked_continuation}{between}" for shot in shots]
            return "".join(shown) + example.worked_document
        between = self.task.document_separator
        shown = [f"{shot.document}{shot.continuation}{between}" for shot in shots]
        return "".join(shown) + example.document

    def turns(self, example: Example) -> list[Turn]:
        """Return the question as a user's turn, after others that were answered."""
        turns: list[Turn] = []
        for shot in self.shown(example):
            turns.append(("user", shot.prompt))
            turns.append(("assistant", shot.response))
        asked = f"{example.prompt}\n{STEP_BY_STEP}" if self.is_worked else example.prompt
        return [*turns, ("user", asked)]

    def ungraded(self, item: Item, prompt: str, gold: str, form: Form) -> ItemResult:
        """Return what is known of an item's result before the model has answered."""
        name, example = item
        return ItemResult(
            task=self.task.name,
            item=name,
            metric=self.metric,
            style=self.style,
            form=form,
            prompt=prompt,
            gold=gold,
            group=example.group,
            shots=self.shots,
        )


@dataclass(frozen=True)
class Asker:
    """A model and how it is to be asked; the fields are those of `eval.asking.run.evaluate`."""

    model: LanguageModel
    batch_size: int
    seed: int = 0
    temperature: float = 0.0
    samples: int = 1
    trained_from: LanguageModel | None = None
    on_progress: Progress | None = None
    should_stop: Callable[[], bool] | None = None
    counts_calls: bool = False

    def write(self, question: Question, items: Sequence[Item]) -> list[ItemResult]:
        """Let the model write responses to each item, and the task verify them.

        All first samples come before all second ones, so that more samples change none of them.
        """
        from eval.asking.conversations import generate_with_tools, tool_results

        form, length = self.model.form, question.max_new_tokens
        asked = [self._prompt(question, example) for _, example in items]
        obstacles = [
            self._obstacle(question, example, len(ids) + length)
            for (_, example), (_, ids) in zip(items, asked, strict=True)
        ]
        prompts = [ids for (_, ids), obstacle in zip(asked, obstacles, strict=True) if not obstacle]
        prompts *= self.samples
        generations = generate_with_tools(
            self.model,
            prompts,
            max_new_tokens=length,
            temperature=self.temperature,
            batch_size=self.batch_size,
            seed=self.seed,
            stop=question.stop(form),
            on_progress=self._progress(question.label, len(prompts)),
            should_stop=self.should_stop,
        )
        ratios = self._log_ratios(question, prompts, generations)
        written = iter(zip(generations, ratios, strict=True))
        results: list[ItemResult] = []
        for sample in range(self.samples):
            for item, (text, _), obstacle in zip(items, asked, obstacles, strict=True):
                result = question.ungraded(item, text, item[1].reference, form)
                result = replace(result, sample=sample, reason=obstacle)
                if not obstacle:
                    generation, ratio = next(written)
                    result = replace(_verified(result, question, generation), log_ratio=ratio)
                results.append(result)
                results += _further(result, question.task, is_asked=not obstacle)
                if self.counts_calls:
                    results += tool_results(result, item[1].needs_tool)
        return [*results, *_of_all(results, question)]

    def read(self, task: Task, items: Sequence[Item]) -> list[ItemResult]:
        """Return how many bits a unit of each right continuation takes, after its document."""
        from eval.asking.loglik import continuation_logprobs, split_continuation

        metric = f"{BITS_PER}{task.unit}"
        pairs = [
            split_continuation(self.model, example.document, example.continuation)
            for _, example in items
        ]
        lengths = [len(before) + len(ids) for before, ids in pairs]
        fitting = [pair for pair, length in zip(pairs, lengths, strict=True) if self._fits(length)]
        logprobs = iter(
            continuation_logprobs(
                self.model,
                fitting,
                batch_size=self.batch_size,
                on_progress=self._progress(f"{task.name}, {metric}", len(fitting)),
                should_stop=self.should_stop,
            )
        )
        results: list[ItemResult] = []
        for (name, example), (_, ids), length in zip(items, pairs, lengths, strict=True):
            result = ItemResult(
                *(task.name, name, metric, "none", "document", example.document),
                gold=example.continuation.strip(),
                group=example.group,
                lower_is_better=True,
            )
            if self._fits(length):
                bits, units = -next(logprobs) / math.log(2), len(result.gold)
                reason = f"{bits:.1f} bits for {units} {task.unit}s"
                result = replace(result, score=bits / units, weight=units, reason=reason)
                results.append(replace(result, num_tokens=len(ids)))
            else:
                results.append(replace(result, reason=self._no_room(length)))
        return results

    def choose(self, question: Question, items: Sequence[Item]) -> list[ItemResult]:
        """Compare the log-probability of each item's continuation with its distractors'.

        Right means strictly above all of them: a model that sees no difference has not chosen.
        """
        from eval.asking.loglik import continuation_logprobs, split_continuations

        options_by_item: list[list[tuple[list[int], list[int]]]] = []
        for item, example in items:
            if not example.distractors or example.continuation in example.distractors:
                raise ValueError(
                    f"item `{item}` of task `{question.task.name}` cannot be scored by choice: "
                    "it needs distractors that differ from its continuation"
                )
            options = (example.continuation, *example.distractors)
            document = question.document(example)
            options_by_item.append(split_continuations(self.model, document, options))
        lengths = [max(len(a) + len(b) for a, b in options) for options in options_by_item]
        pairs = [
            pair
            for options, length in zip(options_by_item, lengths, strict=True)
            if self._fits(length)
            for pair in options
        ]
        logprobs = iter(
            continuation_logprobs(
                self.model,
                pairs,
                batch_size=self.batch_size,
                on_progress=self._progress(question.label, len(pairs)),
                should_stop=self.should_stop,
            )
        )
        results: list[ItemResult] = []
        for item, options, length in zip(items, options_by_item, lengths, strict=True):
            example = item[1]
            prompt, gold = question.document(example), example.continuation.strip()
            result = question.ungraded(item, prompt, gold, "document")
            if self._fits(length):
                result = _chosen(result, example, list(islice(logprobs, len(options))))
                results.append(replace(result, num_tokens=len(options[0][1])))
            else:
                results.append(replace(result, reason=self._no_room(length)))
        return results

    def _prompt(self, question: Question, example: Example) -> tuple[str, list[int]]:
        """Return the prompt as a person reads it and as the model gets it."""
        if self.model.form == "document":
            text = question.document(example)
            return text, self.model.encode_document(text)
        if self.model.encode_chat is None:
            raise ValueError(f"`{self.model.name}` is a chat model without a chat template")
        turns = question.turns(example)
        return dialogue(turns), self.model.encode_chat(turns)

    def _log_ratios(
        self, question: Question, prompts: Sequence[list[int]], generations: "list[Generation]"
    ) -> list[float | None]:
        """Return log p/q of the first responses, where they are samples of the model itself."""
        found: list[float | None] = [None] * len(generations)
        if self.trained_from is None or self.temperature != 1.0:
            return found
        from eval.asking.conversations import own_parts
        from eval.asking.loglik import continuation_logprobs

        first = list(zip(prompts, generations, strict=True))[:_RESPONSES_FOR_RATIOS]
        parts = [own_parts(prompt, generation) for prompt, generation in first]
        pairs = [pair for turns in parts for pair in turns]
        ours, theirs = (
            continuation_logprobs(
                model,
                pairs,
                batch_size=self.batch_size,
                on_progress=self._progress(f"{question.label}, divergence", len(pairs)),
                should_stop=self.should_stop,
            )
            for model in (self.model, self.trained_from)
        )
        differences = iter([a - b for a, b in zip(ours, theirs, strict=True)])
        ratios = [math.fsum(islice(differences, len(turns))) for turns in parts]
        return [*ratios, *found[len(ratios) :]]

    def _obstacle(self, question: Question, example: Example, num_tokens: int) -> str:
        """Return why an item cannot be asked; empty if it can."""
        if question.is_worked and not example.worked_document:
            return "not asked: there is nothing to work out"
        return "" if self._fits(num_tokens) else self._no_room(num_tokens)

    def _fits(self, num_tokens: int) -> bool:
        return self.model.max_length is None or num_tokens <= self.model.max_length

    def _no_room(self, num_tokens: int) -> str:
        return f"not asked: {num_tokens} tokens {NO_ROOM} {self.model.max_length} positions"

    def _progress(self, label: str, total: int) -> Callable[[int], None] | None:
        report = self.on_progress
        return None if report is None else lambda num_done: report(label, num_done, total)


def _verified(result: ItemResult, question: Question, generation: "Generation") -> ItemResult:
    """Have the task grade a written response; of one with calls of tools, the last turn."""
    from eval.asking.conversations import calls_as_json, num_written

    conversation = generation.conversation
    verdict = question.task.verify(generation.text, result.gold)
    is_cut = generation.ended == "length"
    cut = f"cut off after {question.max_new_tokens} tokens" if is_cut else ""
    return replace(
        result,
        response=generation.text,
        answer=verdict.answer,
        score=verdict.score,
        reason="; ".join(filter(None, [verdict.reason, cut])),
        num_tokens=num_written(generation),
        calls=None if conversation is None else calls_as_json(conversation),
        gold_score=question.task.gold_score(generation.text, result.gold),
        picture=grey_levels(question.task, generation.text),
    )


def _further(result: ItemResult, task: Task, *, is_asked: bool) -> Iterator[ItemResult]:
    """Yield what the task's further metrics say of a response, each as a result of its own."""
    if task.further_metrics:
        scores = task.further_scores(result.response, result.gold)
        for metric in task.further_metrics:
            of_item = replace(result, weight=scores[metric].weight)
            score = scores[metric].score if is_asked else None
            yield beside(of_item, metric, score, "" if is_asked else result.reason)


def _of_all(results: Sequence[ItemResult], question: Question) -> Iterator[ItemResult]:
    """Yield each response's share in what the task says of all of them that were written."""
    task = question.task
    answers = [result for result in results if result.metric == question.metric]
    written = [result for result in answers if result.score is not None or result.response]
    shares = task.set_scores([each.response for each in written], [each.gold for each in written])
    for metric in task.set_metrics:
        share_of = dict(zip(map(id, written), shares[metric], strict=True))
        for answer in answers:
            share = share_of.get(id(answer))
            reason = "" if share is not None else answer.reason or "it has no share in it"
            yield beside(answer, metric, share, reason)


def _chosen(result: ItemResult, example: Example, logprobs: Sequence[float]) -> ItemResult:
    """Grade a choice; logprobs are of the right continuation and then of the distractors."""
    right, best_other = logprobs[0], max(logprobs[1:])
    is_right = right > best_other
    chosen = example.continuation
    if not is_right:
        chosen = example.distractors[logprobs.index(best_other, 1) - 1]
    best = max(right, best_other)
    return replace(
        result,
        response=chosen,
        answer=chosen.strip(),
        score=float(is_right),
        reason=f"log-probability {right:.3f}, of the likeliest other {best_other:.3f}",
        confidence=1 / math.fsum(math.exp(logprob - best) for logprob in logprobs),
    )


def dialogue(turns: Iterable[tuple[str, str]]) -> str:
    """Return a single question as it is, several turns with who says them."""
    said = list(turns)
    if len(said) == 1:
        return said[0][1]
    return "\n".join(f"{role}: {text}" for role, text in said)
