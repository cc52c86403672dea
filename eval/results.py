"""What one model made of one item: the record that asking writes and comparing reads.

Not how an item is asked (see `eval.asking.question`), nor what a set of results says (see
`eval.comparison.score_rows`).
"""

from dataclasses import dataclass, replace
from typing import Any, Literal

from eval.model import Form
from eval.task import Task

Style = Literal["zero-shot", "few-shot", "chain-of-thought", "none"]
STYLES: tuple[Style, ...] = ("zero-shot", "few-shot", "chain-of-thought", "none")

# Metrics of our own; a bridge to another harness brings others.
CHOICE = "choice_accuracy"
VERIFIED = "verified_accuracy"
BITS_PER = "bits_per_"  # and a unit: of a text a byte, of a task's continuations its own
BITS_PER_BYTE = f"{BITS_PER}byte"
REWARD = "reward"  # of an answer to a free-form prompt, by what judges it
WRITTEN = "written"  # an answer that nothing judges
# Of an answer by a model with tools. Beside the answer's own metric, one for each response.
CALLED = "called_tools"  # whether it called any
CALLS_RIGHT = "calls_without_error"  # the share of its calls; None without one
CALLED_NEEDED = "called_when_needed"  # of items that are not right without one
NOT_CALLED = "no_call_when_not_needed"  # of the others
TOOL_METRICS = (CALLED, CALLS_RIGHT, CALLED_NEEDED, NOT_CALLED)
RANKING = "ranking_accuracy"  # of pairs: whether the chosen response is the likelier
PREFERENCE = "preference_accuracy"  # of pairs: whether a reward model prefers the chosen response


@dataclass(frozen=True)
class ItemResult:
    """What one model made of one item, or one sample of it.

    task, item: for texts, the text's name, and the document's place and hash.
    metric: what `score` is.
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
    shots: demonstrations that the prompt shows.
    sample: which response to the same prompt, counted from 0.
    confidence: of a choice, the share of the chosen option in the probability of all options.
    log_ratio: log p(response) - log q(response) in nats, where the response was sampled from p
        itself, this model at temperature 1, and q is the model that it was trained from.
    lower_is_better: of `score`.
    window: tokens of context that a text was read with, at most; 0 for what was not read.
    calls: of tools, in order, as `{name, arguments, answer, error}`; None where the model had none.
    picture: what the response shows, rows of grey levels from 0 to 255; None where it is a text.
    """

    task: str
    item: str
    metric: str
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
    shots: int = 0
    sample: int = 0
    confidence: float | None = None
    log_ratio: float | None = None
    lower_is_better: bool = False
    window: int = 0
    calls: list[dict[str, Any]] | None = None
    picture: list[list[int]] | None = None


def grey_levels(task: Task, response: str) -> list[list[int]] | None:
    """Return what a task has a response show, as `picture` of a result has it."""
    rows = task.picture(response)
    if rows is None:
        return None
    return [[round(255 * min(1.0, max(0.0, level))) for level in row] for row in rows]


def beside(result: ItemResult, metric: str, score: float | None, reason: str) -> ItemResult:
    """Return what another metric says of a response, without the response itself."""
    return replace(
        result,
        metric=metric,
        score=score,
        reason=reason,
        response="",
        answer=None,
        gold_score=None,
        log_ratio=None,
        num_tokens=0,
        calls=None,
        picture=None,
    )
