"""A Task: one subject, written once, that feeds every stage from pre-training to evaluation.

Not a data set loader and not a metric: a task generates (or reads) examples in disjoint splits and
can verify a response. Everything else (documents, demonstrations, preference pairs, RL prompts,
test items) is derived from these.
"""

import hashlib
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

from reward.verdict import Verdict

Kind = Literal["skill", "knowledge"]
Split = Literal["train", "validation", "test"]
Metric = Literal["choice_accuracy", "verified_accuracy"]

STEP_BY_STEP = "Let's think step by step."  # Kojima et al. 2022, table 4


@dataclass(frozen=True)
class FlawedResponse:
    """A response that is worse than the demonstration, and what is wrong with it."""

    response: str
    flaw: str


@dataclass(frozen=True)
class ToolStep:
    """A call of a tool in a demonstration, and what the tool answers."""

    name: str
    arguments: Mapping[str, Any]
    answer: str


@dataclass(frozen=True)
class Example:
    """One question with everything a stage may want of it.

    id: canonical; two examples with one answer by the same reasoning (3 + 4 and 4 + 3) share it.
    prompt, response: as a chat user asks it and as a good assistant answers, reasoning included.
    reference: what `Task.verify` compares an answer with.
    document, continuation: the same question in the phrasing of a pre-training document, for a base
        model to continue (`"The capital of France is"`, `" Paris"`); the continuation begins with
        its own white space.
    distractors: wrong continuations, for choice by log-likelihood.
    flawed: worse responses, for preference pairs.
    group: what the example belongs to, for a breakdown or a curve: an operation, a distance.
    worked_document, worked_continuation: the question as the beginning of a document that works it
        out step by step, and how that goes on, the answer last; empty where nothing is reasoned.
    siblings: examples under the same hidden rule. A prompt shows the first of them, in place of
        demonstrations that are the same for every item: they carry what is asked.
    tool_steps: what a demonstration calls before it answers, each call in a turn of its own.
    needs_tool: whether it takes one of the task's tools to be right; None where there are none.
    """

    id: str
    prompt: str
    response: str
    reference: str
    document: str
    continuation: str
    distractors: tuple[str, ...] = ()
    flawed: tuple[FlawedResponse, ...] = ()
    group: str = ""
    worked_document: str = ""
    worked_continuation: str = ""
    siblings: tuple["Example", ...] = ()
    tool_steps: tuple[ToolStep, ...] = ()
    needs_tool: bool | None = None


@dataclass(frozen=True)
class PreferencePair:
    """A prompt with a better and a worse response; `flaw` names what makes it worse."""

    prompt: str
    chosen: str
    rejected: str
    flaw: str


@dataclass(frozen=True)
class RlPrompt:
    """A prompt to sample responses for, with what `Task.verify` needs to reward them.

    needs_tool: as Example has it. document: what a model of documents continues, where that is not
        the prompt.
    """

    prompt: str
    reference: str
    needs_tool: bool | None = None
    document: str | None = None


@dataclass(frozen=True)
class FurtherScore:
    """What a task says of a response by another of its metrics. weight: the item's in the mean."""

    score: float | None
    weight: float = 1.0


class Task(ABC):
    """One subject with disjoint splits, examples, documents and a verifier.

    *Skill*: no test example, nor a twin of it (same `id`), occurs in any training data, documents
    included. *Knowledge*: the fact is stated in documents; test examples never occur in
    demonstrations, preference pairs or RL prompts, and no `prompt` occurs in a document.

    Class attributes: `version` rises when what the task generates changes (it is part of every
    fingerprint); `metrics` are the ways it can be asked, `further_metrics` what else is measured of
    a written response (`further_scores`), `set_metrics` what is measured of all responses together
    (`set_scores`); `unit` is what a character of a continuation stands for, as `pixel`: then
    `bits_per_pixel` is measured of the right ones; `source` is the release of a package that
    examples come from, part of every fingerprint, too; `max_new_tokens` bounds a response;
    `document_stop` are strings that end an answer in document form, `worked_stop` one that is
    worked out; in a prompt `document_separator` stands between the documents shown, and the first
    of `worked_stop` between those worked out: documents should list several in the same way.
    `tools` are the JSON schemas of the functions that its demonstrations may call; `group_unit` is
    what groups that are numbers count, under the axis of a curve.
    Settings of difficulty are keyword parameters of the constructor.
    """

    name: str  # with the settings that were given: `arithmetic(max_digits=3)`
    version: ClassVar[int]
    kind: ClassVar[Kind]
    summary: ClassVar[str]
    metrics: tuple[Metric, ...] = ("verified_accuracy",)
    further_metrics: ClassVar[tuple[str, ...]] = ()
    set_metrics: ClassVar[tuple[str, ...]] = ()
    unit: ClassVar[str] = ""
    source: str = ""
    max_new_tokens: int = 64
    document_stop: ClassVar[tuple[str, ...]] = ("\n",)
    document_separator: ClassVar[str] = "\n"
    worked_stop: ClassVar[tuple[str, ...]] = ("\n\n",)
    group_unit: ClassVar[str] = "group"
    tools: tuple[Mapping[str, Any], ...] = ()

    @abstractmethod
    def examples(self, split: Split) -> Iterator[Example]:
        """Yield the split's examples in a fixed, shuffled order; splits share no `id`."""

    @abstractmethod
    def documents(self, seed: int) -> Iterator[str]:
        """Yield one pass of pre-training documents; another seed gives other samples."""

    def held_out_documents(self, seed: int) -> Iterator[str]:
        """Yield documents that no training reads; as a rule those of a pass that none makes."""
        return self.documents(seed)

    @abstractmethod
    def verify(self, response: str, reference: str) -> Verdict:
        """Grade a response. Pure: no state, no clock, no randomness."""

    def gold_score(self, response: str, reference: str) -> float | None:
        """Return how good the task's author finds a response, or None if it cannot be graded.

        Higher is better, and only a comparison of two responses to one prompt means anything: never
        a reward. As `verify` grades it, unless the task prefers more than being right.
        """
        return self.verify(response, reference).score

    def further_scores(self, response: str, reference: str) -> Mapping[str, FurtherScore]:
        """Return what `further_metrics` say of a response, each; pure, as `verify` is."""
        return {}

    def set_scores(
        self, responses: Sequence[str], references: Sequence[str]
    ) -> Mapping[str, Sequence[float | None]]:
        """Return each response's share in what `set_metrics` say of all of them: their mean is it.

        The shares are to vary as much as the figure does: eval/statistics/spread.py has an example.
        """
        return {}

    def picture(self, response: str) -> Sequence[Sequence[float]] | None:
        """Return a response as a picture: rows of grey levels from 0 for black to 1 for white.

        None for what is no picture. A task whose responses are pictures has them shown.
        """
        return None

    @property
    def measured(self) -> tuple[str, ...]:
        """All that results say of the task's items."""
        of_units = (f"bits_per_{self.unit}",) if self.unit else ()
        return (*self.metrics, *self.further_metrics, *self.set_metrics, *of_units)

    def demonstrations(self, split: Split = "train") -> Iterator[Example]:
        """Yield prompt and response for supervised fine-tuning."""
        _refuse_test(self.name, split)
        return self.examples(split)

    def preference_pairs(self, split: Split = "train") -> Iterator[PreferencePair]:
        """Yield one pair for each flawed response of each example."""
        _refuse_test(self.name, split)
        for example in self.examples(split):
            for flawed in example.flawed:
                yield PreferencePair(example.prompt, example.response, flawed.response, flawed.flaw)

    def rl_prompts(self, split: Split = "train") -> Iterator[RlPrompt]:
        """Yield prompts whose responses `verify` rewards."""
        _refuse_test(self.name, split)
        for example in self.examples(split):
            yield RlPrompt(example.prompt, example.reference, example.needs_tool)

    def test_items(self, limit: int, split: Split = "test") -> Sequence[Example]:
        """Return the first `limit` examples of the split: the same ones for every model."""
        items: list[Example] = []
        for example in self.examples(split):
            if len(items) == limit:
                break
            items.append(example)
        return items


def split_of(identity: str, *, validation: float = 0.1, test: float = 0.2) -> Split:
    """Return the split that an id belongs to, by its hash: the same on every machine, forever."""
    bucket = int.from_bytes(hashlib.sha256(identity.encode()).digest()[:8]) / 2**64
    if bucket < test:
        return "test"
    return "validation" if bucket < test + validation else "train"


def _refuse_test(name: str, split: Split) -> None:
    if split == "test":
        raise ValueError(f"task `{name}`: the test split is for evaluation only")
