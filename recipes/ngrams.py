"""A stage of one's own: what counting n-grams gets on the test items of tasks. Used by world.yaml.

The baseline that a claim about attention needs: of a text it sees the last `order - 1` tokens and
nothing before. Counts are of the documents that `pretrain` trains on with the same `data`, `tokens`
and `seed`. What comes next is what most often did after the longest context that was ever counted
(stupid backoff, Brants et al. 2007); a choice is scored so, too.
"""

import math
from collections import Counter, defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Annotated

from pydantic import Field, PositiveInt

from eval.results import CHOICE, ItemResult
from eval.task import Example, Metric, Task
from pipeline.config.blocks import DataBlocks
from pipeline.config.field_types import OR_ONE, Count, TaskName, TokenizerRef
from pipeline.config.stage import Stage, StageContext, StageResult
from pipeline.config.stage_config import StageConfig

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

_BACKOFF = 0.4  # for each token of context that is given up, as in the paper


class NgramsConfig(StageConfig):
    """tokenizer: whose tokens are counted. order: how many in a row. tokens: of documents.

    tasks: whose test items are asked, `limit` of each.
    """

    tokenizer: TokenizerRef
    data: DataBlocks
    tokens: Count
    order: Annotated[int, Field(ge=2)] = 5
    tasks: Annotated[tuple[TaskName, ...], OR_ONE]
    limit: PositiveInt = 200


@dataclass
class Ngrams:
    """What followed each context of 0 to order - 1 tokens, and how often."""

    order: int
    followers: dict[tuple[int, ...], Counter[int]] = field(
        default_factory=lambda: defaultdict(Counter)
    )

    def count(self, ids: Sequence[int]) -> None:
        """Count the tokens of a document."""
        for place, token in enumerate(ids):
            for length in range(min(self.order - 1, place) + 1):
                self.followers[tuple(ids[place - length : place])][token] += 1

    def next_token(self, ids: list[int]) -> int:
        """Return what most often followed the longest context that is known."""
        for length in range(self.order - 1, -1, -1):
            found = self.followers.get(tuple(ids[max(0, len(ids) - length) :]))
            if found:
                return found.most_common(1)[0][0]
        raise ValueError("nothing was counted")

    def log_score(self, context: list[int], ids: list[int]) -> float:
        """Return the log of the scores of tokens after a context: an order, not a probability."""
        total = 0.0
        whole = [*context, *ids]
        for place in range(len(context), len(whole)):
            total += self._log_score(whole[max(0, place - self.order + 1) : place], whole[place])
        return total

    def _log_score(self, context: list[int], token: int) -> float:
        for given_up in range(len(context) + 1):
            found = self.followers.get(tuple(context[given_up:]))
            if found and found[token]:
                return given_up * math.log(_BACKOFF) + math.log(found[token] / found.total())
        return -math.inf


def run(config: NgramsConfig, context: StageContext) -> StageResult:
    """Count, then ask each task's test items by every metric that it has."""
    from pipeline.data.encoding.tokens import TextEncoder
    from pipeline.data.mixing import mix_documents
    from pipeline.data.reading.tasks import load_task
    from pipeline.data.training_sources import token_sources
    from pipeline.measuring.model_scores import write_items
    from pipeline.models.load import load_tokenizer

    tokenizer = load_tokenizer(context.model(config.tokenizer))
    sources = token_sources(
        config.data, context.places, tokenizer, seed=context.seed, screen=context.screen
    )
    ngrams = Ngrams(config.order)
    for document in mix_documents(sources, tokens=config.tokens, seed=context.seed)[0]:
        ngrams.count(document.tolist())
    asker = _Asker(ngrams, tokenizer, TextEncoder(tokenizer).document)
    results = [
        asker.ask(task, example, metric)
        for task in (load_task(name, context.places) for name in config.tasks)
        for metric in task.metrics
        for example in task.test_items(config.limit)
    ]
    write_items(results, context.name, context)
    scores = defaultdict(list[float])
    for result in results:
        scores[f"{result.task} {result.metric}"].append(result.score or 0.0)
    return StageResult(
        {name: sum(found) / len(found) for name, found in scores.items()},
        {"model": context.name},
    )


class _Asker:
    """Puts a task's items to the counts, as documents to continue."""

    def __init__(
        self,
        ngrams: Ngrams,
        tokenizer: "PreTrainedTokenizerBase",
        encode: Callable[[str], list[int]],
    ) -> None:
        self.ngrams, self.tokenizer, self.encode = ngrams, tokenizer, encode

    def ask(self, task: Task, example: Example, metric: Metric) -> ItemResult:
        ids = self.encode(example.document)
        if metric == CHOICE:
            options = [example.continuation, *example.distractors]
            scores = [self.ngrams.log_score(ids, self._added(ids, example, o)) for o in options]
            response = options[scores.index(max(scores))]
            score, reason = float(scores[0] > max(scores[1:])), "by counts"
        else:
            response = self._write(ids, task)
            verdict = task.verify(response, example.reference)
            score, reason = verdict.score, verdict.reason
        return ItemResult(
            task=task.name, item=example.id, metric=metric, style="zero-shot", form="document",
            prompt=example.document, gold=example.reference, response=response, score=score,
            reason=reason, group=example.group,
        )  # fmt: skip

    def _added(self, ids: list[int], example: Example, option: str) -> list[int]:
        return self.encode(example.document + option)[len(ids) :]

    def _write(self, prompt: list[int], task: Task) -> str:
        written: list[int] = []
        text = ""
        while len(written) < task.max_new_tokens:
            written.append(self.ngrams.next_token([*prompt, *written]))
            text = self.tokenizer.decode(written, skip_special_tokens=True)
            if written[-1] == self.tokenizer.eos_token_id or any(
                stop in text for stop in task.document_stop
            ):
                break
        cut = min((text.index(stop) for stop in task.document_stop if stop in text), default=None)
        return text[:cut]


STAGE = Stage(config=NgramsConfig, run=run, produces="evaluation", version=1)
