"""Asks a model the test items of tasks and returns one result per item, metric and style.

A base model is asked by a document to continue, a chat model through its template. Choice by
log-likelihood is put to both in the document's phrasing: it measures what a model knows, and stays
comparable. Everything is deterministic; the demonstrations of a few-shot prompt are the same for
every model and item. Imports no torch until a model is asked.
"""

import hashlib
import math
import random
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import islice
from typing import Literal

from eval.model import Form, LanguageModel, Turn
from eval.task import Example, Metric, Task

Style = Literal["zero-shot", "few-shot", "none"]
ItemMetric = Literal["choice_accuracy", "verified_accuracy", "bits_per_byte"]
Progress = Callable[[str, int, int], None]

_Item = tuple[str, Example]  # an id of its own, and the example

_SHOT_POOL = 256  # demonstrations are drawn from this many first training examples
_EXCERPT = 200  # characters of a text that its result repeats


@dataclass(frozen=True)
class ItemResult:
    """What one model made of one item.

    task, item: for texts, the text's name, and the document's place and hash.
    style: "none" for texts, which are not asked but read.
    form: how this item was asked, whatever the model's own form: choices and texts are documents.
    prompt: as asked; of a text its beginning. response: as written; for a choice, the likeliest
        option.
    score: 1 right, 0 wrong, between them partly right; bits per byte for texts; None if it could
        not be graded.
    num_tokens: written ones; where nothing is written, scored ones (for a choice, of the right
        continuation).
    weight: share in the mean; bytes for texts, so that the mean is total bits / total bytes.
    gold_score: what `Task.gold_score` says of a written response; None where nothing was written.
    group: of the example.
    """

    task: str
    item: str
    metric: ItemMetric
    style: Style
    form: Form
    prompt: str
    gold: str
    response: str = ""
    answer: str | None = None
    score: float | None = None
    reason: str = ""
    num_tokens: int = 0
    weight: float = 1.0
    gold_score: float | None = None
    group: str = ""


def evaluate(
    model: LanguageModel,
    tasks: Sequence[Task],
    *,
    limit: int,
    styles: Sequence[Style],
    shots: int,
    batch_size: int,
    seed: int,
    temperature: float = 0.0,
    on_progress: Progress | None = None,
    should_stop: Callable[[], bool] | None = None,
) -> list[ItemResult]:
    """Return the results of up to `limit` test items a task, by each of its metrics, in each style.

    shots: demonstrations in a few-shot prompt; they come from the train split, drawn by `seed`.
    on_progress: called with what is being asked, how much of it is done, and how much there is.

    Items whose prompt leaves no room in the model's context are not cut but left ungraded (score
    None), with the reason. Raises ValueError for a task that cannot be asked this way, and
    StopRequested.
    """
    asker = _Asker(model, batch_size, seed, temperature, on_progress, should_stop)
    results: list[ItemResult] = []
    for task in tasks:
        items = _with_unique_ids(task.test_items(limit))
        for metric in task.metrics:
            for style in styles:
                shown = demonstrations(task, shots, seed) if style == "few-shot" else []
                question = _Question(task, metric, style, shown)
                ask = asker.choose if metric == "choice_accuracy" else asker.write
                results += ask(question, items)
    return results


def evaluate_texts(
    model: LanguageModel,
    texts: Mapping[str, Sequence[str]],
    *,
    batch_size: int,
    on_progress: Progress | None = None,
    should_stop: Callable[[], bool] | None = None,
) -> list[ItemResult]:
    """Return the bits per byte of each document of each named text (see `eval.loglik`)."""
    asker = _Asker(model, batch_size, 0, 0.0, on_progress, should_stop)
    return [result for name, documents in texts.items() for result in asker.read(name, documents)]


def demonstrations(task: Task, shots: int, seed: int) -> list[Example]:
    """Return the examples shown in a few-shot prompt, the same for every model and item."""
    # Twins, and one question in several wordings, share an id: a prompt shows one of them.
    pool_by_id = {example.id: example for example in islice(task.examples("train"), _SHOT_POOL)}
    pool = list(pool_by_id.values())
    if not 1 <= shots <= len(pool):
        raise ValueError(
            f"a few-shot prompt of `{task.name}` takes 1 to {len(pool)} demonstrations, not {shots}"
        )
    return random.Random(f"{seed}/{task.name}").sample(pool, shots)


@dataclass(frozen=True)
class _Question:
    """A task asked by one metric in one style."""

    task: Task
    metric: Metric
    style: Style
    demonstrations: Sequence[Example]

    @property
    def label(self) -> str:
        return f"{self.task.name}, {self.metric}, {self.style}"

    def document(self, example: Example) -> str:
        shown = [f"{shot.document}{shot.continuation}\n" for shot in self.demonstrations]
        return "".join(shown) + example.document

    def turns(self, example: Example) -> list[Turn]:
        turns: list[Turn] = []
        for shot in self.demonstrations:
            turns.append(("user", shot.prompt))
            turns.append(("assistant", shot.response))
        return [*turns, ("user", example.prompt)]

    def ungraded(self, item: str, prompt: str, gold: str, form: Form) -> ItemResult:
        """Return what is known of an item's result before the model has answered."""
        return ItemResult(self.task.name, item, self.metric, self.style, form, prompt, gold)


@dataclass(frozen=True)
class _Asker:
    """A model and how it is to be asked: to write, to choose, to read."""

    model: LanguageModel
    batch_size: int
    seed: int
    temperature: float
    on_progress: Progress | None
    should_stop: Callable[[], bool] | None

    def write(self, question: _Question, items: Sequence[_Item]) -> list[ItemResult]:
        """Let the model write a response to each item, and the task verify it."""
        from eval.sampler import generate

        task, form = question.task, self.model.form
        asked = [self._prompt(question, example) for _, example in items]
        fitting = [
            index
            for index, (_, ids) in enumerate(asked)
            if self._fits(len(ids) + task.max_new_tokens)
        ]
        generations = generate(
            self.model,
            [asked[index][1] for index in fitting],
            max_new_tokens=task.max_new_tokens,
            temperature=self.temperature,
            batch_size=self.batch_size,
            seed=self.seed,
            stop=task.document_stop if form == "document" else (),
            on_progress=self._progress(question.label, len(fitting)),
            should_stop=self.should_stop,
        )
        generation_by_index = dict(zip(fitting, generations, strict=True))
        results: list[ItemResult] = []
        for index, (item, example) in enumerate(items):
            text, ids = asked[index]
            result = question.ungraded(item, text, example.reference, form)
            generation = generation_by_index.get(index)
            if generation is None:
                results.append(
                    replace(result, reason=self._no_room(len(ids) + task.max_new_tokens))
                )
                continue
            verdict = task.verify(generation.text, example.reference)
            cut = f"cut off after {task.max_new_tokens} tokens"
            reasons = [verdict.reason, cut if generation.ended == "length" else ""]
            results.append(
                replace(
                    result,
                    response=generation.text,
                    answer=verdict.answer,
                    score=verdict.score,
                    reason="; ".join(filter(None, reasons)),
                    num_tokens=len(generation.token_ids),
                    gold_score=task.gold_score(generation.text, example.reference),
                )
            )
        return results

    def choose(self, question: _Question, items: Sequence[_Item]) -> list[ItemResult]:
        """Compare the log-probability of each item's continuation with its distractors'.

        Right means strictly above all of them: a model that sees no difference has not chosen.
        """
        from eval.loglik import continuation_logprobs, split_continuation

        options_by_item: list[list[tuple[list[int], list[int]]]] = []
        for item, example in items:
            if not example.distractors or example.continuation in example.distractors:
                raise ValueError(
                    f"item `{item}` of task `{question.task.name}` cannot be scored by choice: "
                    "it needs distractors that differ from its continuation"
                )
            document = question.document(example)
            options_by_item.append(
                [
                    split_continuation(self.model, document, option)
                    for option in (example.continuation, *example.distractors)
                ]
            )
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
        for (item, example), options, length in zip(items, options_by_item, lengths, strict=True):
            prompt, gold = question.document(example), example.continuation.strip()
            result = question.ungraded(item, prompt, gold, "document")
            if self._fits(length):
                result = _chosen(result, example, list(islice(logprobs, len(options))))
                results.append(replace(result, num_tokens=len(options[0][1])))
            else:
                results.append(replace(result, reason=self._no_room(length)))
        return results

    def read(self, name: str, documents: Sequence[str]) -> list[ItemResult]:
        """Measure how many bits per byte of each document the model needs."""
        from eval.loglik import continuation_logprobs, first_token_bits, text_pairs

        windows_by_document = [text_pairs(self.model, document) for document in documents]
        pairs = [window for windows in windows_by_document for window in windows]
        logprobs = iter(
            continuation_logprobs(
                self.model,
                pairs,
                batch_size=self.batch_size,
                on_progress=self._progress(f"{name}, bits_per_byte", len(pairs)),
                should_stop=self.should_stop,
            )
        )
        results: list[ItemResult] = []
        for index, (document, windows) in enumerate(
            zip(documents, windows_by_document, strict=True)
        ):
            nats = -math.fsum(islice(logprobs, len(windows)))
            bits = nats / math.log(2) + first_token_bits(self.model, document)
            num_tokens = sum(len(scored) for _, scored in windows)
            results.append(_read(name, index, document, bits, num_tokens))
        return results

    def _prompt(self, question: _Question, example: Example) -> tuple[str, list[int]]:
        """Return the prompt as a person reads it and as the model gets it."""
        if self.model.form == "document":
            text = question.document(example)
            return text, self.model.encode_document(text)
        if self.model.encode_chat is None:
            raise ValueError(f"`{self.model.name}` is a chat model without a chat template")
        turns = question.turns(example)
        return _dialogue(turns), self.model.encode_chat(turns)

    def _fits(self, num_tokens: int) -> bool:
        return self.model.max_length is None or num_tokens <= self.model.max_length

    def _no_room(self, num_tokens: int) -> str:
        return f"not asked: {num_tokens} tokens do not fit into {self.model.max_length} positions"

    def _progress(self, label: str, total: int) -> Callable[[int], None] | None:
        report = self.on_progress
        return None if report is None else lambda num_done: report(label, num_done, total)


def _chosen(result: ItemResult, example: Example, logprobs: Sequence[float]) -> ItemResult:
    """Grade a choice; logprobs are of the right continuation and then of the distractors."""
    right, best_other = logprobs[0], max(logprobs[1:])
    is_right = right > best_other
    chosen = example.continuation
    if not is_right:
        chosen = example.distractors[logprobs.index(best_other, 1) - 1]
    return replace(
        result,
        response=chosen,
        answer=chosen.strip(),
        score=float(is_right),
        reason=f"log-probability {right:.3f}, of the likeliest other {best_other:.3f}",
    )


def _read(name: str, index: int, document: str, bits: float, num_tokens: int) -> ItemResult:
    content = document.encode()
    size_bytes = len(content)
    digest = hashlib.sha256(content).hexdigest()[:12]
    excerpt = document if len(document) <= _EXCERPT else f"{document[:_EXCERPT]}…"
    result = ItemResult(name, f"{index}-{digest}", "bits_per_byte", "none", "document", excerpt, "")
    if size_bytes == 0:
        return replace(result, reason="the document is empty")
    reason = f"{bits:.1f} bits for {size_bytes} bytes"
    score = bits / size_bytes
    return replace(result, score=score, reason=reason, num_tokens=num_tokens, weight=size_bytes)


def _with_unique_ids(examples: Iterable[Example]) -> list[_Item]:
    """Return (id, example); twins share an id, so the second one is called `id#2`."""
    items: list[_Item] = []
    count_by_id: dict[str, int] = {}
    for example in examples:
        count = count_by_id[example.id] = count_by_id.get(example.id, 0) + 1
        items.append((example.id if count == 1 else f"{example.id}#{count}", example))
    return items


def _dialogue(turns: Sequence[Turn]) -> str:
    """Return a single question as it is, several turns with who says them."""
    if len(turns) == 1:
        return turns[0][1]
    return "\n".join(f"{role}: {text}" for role, text in turns)
