"""Tasks of lm-evaluation-harness by name, asked of our models (Gao et al. 2024, EleutherAI).

Not a second harness: it builds the prompts, asks through its own wrapper of a transformers model,
filters and scores, so that a number is the one that `lm_eval --model hf` gives. What is made of it
here is a result for each document and metric, which can then be compared with intervals. lm_eval is
an optional dependency, imported when it is needed.
"""

from __future__ import annotations

import copy
import math
import random
from dataclasses import dataclass, field
from functools import cache
from importlib import import_module
from typing import TYPE_CHECKING, Any, SupportsFloat

from eval import tasks
from eval.model import StopRequested
from eval.results import BITS_PER_BYTE, ItemResult
from eval.statistics.intervals import mean

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence
    from pathlib import Path

    from eval.asking.question import Progress
    from eval.model import LanguageModel
    from eval.results import Style

INSTALL = "pip install 'posttrain[harness]'"
_SHOTS = "num_fewshot"
_NO_FILTER = "none"


class HarnessError(ValueError):
    """What is asked of the harness cannot be had: a name it does not know, a missing package."""


@dataclass
class Harnessed:
    """What the harness made of a model.

    versions: of lm_eval and of each task. notes: sentences on them, and on figures that are no mean
    over items.
    """

    results: list[ItemResult] = field(default_factory=list[ItemResult])
    versions: dict[str, str] = field(default_factory=dict[str, str])
    notes: list[str] = field(default_factory=list[str])


@dataclass(frozen=True)
class _Asked:
    """One name: a task, a tag, or a group, whose items are all of one task of ours."""

    name: str
    loaded: Any  # lm_eval's TaskDict

    @property
    def is_group(self) -> bool:
        return self.name in self.loaded["groups"]


class Harness:
    """Tasks of the harness with their data, ready to be asked.

    names: of tasks, groups or tags, each with its own number of demonstrations unless it carries
    another: `arc_challenge(num_fewshot=25)`. include: a folder with task definitions (YAML) of the
    user's own. Raises HarnessError, and whatever loading a data set raises.
    """

    def __init__(self, names: Sequence[str], include: Path | None = None) -> None:
        self._asked = [_Asked(tasks.parse(name)[0], _loaded(name, include)) for name in names]

    def ask(
        self,
        model: LanguageModel,
        *,
        limit: int,
        batch_size: int,
        on_progress: Progress | None = None,
        should_stop: Callable[[], bool] | None = None,
    ) -> Harnessed:
        """Return what the first `limit` documents of each task give.

        A chat model is asked through its template, demonstrations as turns. Prompts that do not fit
        are cut from the left, as the harness does. Raises StopRequested.
        """
        lm_eval = _module("lm_eval")
        evaluator = _module("lm_eval.evaluator")
        found = Harnessed(versions={"lm_eval": str(lm_eval.__version__)})
        for asked in self._asked:
            wrapped = _wrapped(model, batch_size, asked.name, on_progress, should_stop)
            _seed()
            output = evaluator.evaluate(
                wrapped,
                asked.loaded,
                limit=limit,
                bootstrap_iters=0,
                apply_chat_template=model.form == "chat",
                fewshot_as_multiturn=True,
            )
            named = [asked.name] if asked.is_group else output["samples"]
            found.versions |= {task: str(output["versions"].get(task)) for task in named}
            results = list(_results(asked, output, model))
            found.results += results
            found.notes += _notes(asked, output, results)
        named = ", ".join(f"{name} {version}" for name, version in found.versions.items())
        found.notes.insert(0, f"Versions of what lm-evaluation-harness asked: {named}.")
        return found


def _loaded(name: str, include: Path | None) -> Any:
    """Load what a name stands for, data included, as lm_eval's `simple_evaluate` does."""
    plain, settings = tasks.parse(name)
    shots = settings.pop(_SHOTS, None)
    if settings or not (shots is None or (isinstance(shots, int) and shots >= 0)):
        raise HarnessError(f"`{name}`: a task of the harness takes `{_SHOTS}=N` and nothing else")
    manager = _manager_that_knows(plain, include)
    if (manager.task_index[plain].cfg or {}).get("unsafe_code"):
        raise _unsafe(plain)
    try:
        loaded = manager.load([plain])
    except ImportError as error:
        raise HarnessError(f"the task `{plain}` of the harness needs more: {error}") from error
    seed = _module("lm_eval.defaults").DEFAULT_OTHER_SEED
    for task_name, task in loaded["tasks"].items():
        if getattr(task, "UNSAFE_CODE", False):
            raise _unsafe(task_name)
        own = task.get_config(_SHOTS)
        if own != 0 and (shots is not None or own is None):  # 0 there means: never any
            task.set_config(key=_SHOTS, value=shots or 0)
        task.set_fewshot_seed(seed=seed)
    return loaded


def _unsafe(name: str) -> HarnessError:
    return HarnessError(
        f"`{name}` of the harness runs what a model writes without a sandbox; tasks of our own "
        "(`humaneval`, `mbpp`) have one"
    )


def _manager_that_knows(name: str, include: Path | None) -> Any:
    if include is not None:
        own = _manager(include, includes_defaults=False)
        if _is_complete(own, name):
            return own  # the harness's own 15,000 definitions take half a minute to read
    manager = _manager(include, includes_defaults=True)
    if name not in manager.task_index:
        from difflib import get_close_matches

        near = get_close_matches(name, manager.all_tasks, n=1)
        guess = f"did you mean `{near[0]}`?" if near else "`lm_eval ls tasks` shows all"
        raise HarnessError(f"lm-evaluation-harness has no task `{name}`; {guess}")
    return manager


def _is_complete(manager: Any, name: str) -> bool:
    """Return whether a manager knows a name and, of a group, all that is in it."""
    entry = manager.task_index.get(name)
    if entry is None:
        return False
    inside = (entry.cfg or {}).get("task") if name in manager.all_groups else ()
    return all(isinstance(each, str) and _is_complete(manager, each) for each in inside or ())


@cache
def _manager(include: Path | None, *, includes_defaults: bool) -> Any:
    return _module("lm_eval.tasks").TaskManager(
        include_path=None if include is None else str(include), include_defaults=includes_defaults
    )


def _module(name: str) -> Any:
    try:
        return import_module(name)
    except ModuleNotFoundError as error:
        if not (error.name or "").startswith("lm_eval"):
            raise
        message = f"lm-evaluation-harness is not installed, or too old: {INSTALL}"
        raise HarnessError(message) from error


def _seed() -> None:
    """Seed as lm_eval's command does: some tasks draw at random."""
    import numpy as np
    import torch

    defaults = _module("lm_eval.defaults")
    random.seed(defaults.DEFAULT_RANDOM_SEED)
    np.random.seed(defaults.DEFAULT_OTHER_SEED)  # noqa: NPY002  the one that those tasks draw from
    torch.manual_seed(defaults.DEFAULT_OTHER_SEED)


def _wrapped(
    model: LanguageModel,
    batch_size: int,
    name: str,
    on_progress: Progress | None,
    should_stop: Callable[[], bool] | None,
) -> Any:
    """Wrap our model in the harness's `hf` model, which says how far it is and can be stopped."""
    base: Any = _module("lm_eval.models.huggingface").HFLM

    # Of documents read, not of questions asked; as long as the model has positions where it is not
    # known what it was trained on, so that published figures come out.
    window = min(model.trained_length or math.inf, model.max_length or math.inf)
    window = None if window == math.inf else window

    class Watched(base):
        done, total = 0, 0

        def loglikelihood(self, requests: Any, disable_tqdm: bool = True) -> Any:
            self._begin(requests)
            return super().loglikelihood(requests, disable_tqdm=disable_tqdm)

        def loglikelihood_rolling(self, requests: Any, disable_tqdm: bool = True) -> Any:
            self._begin(requests)
            whole, self._max_length = self._max_length, window
            try:
                return super().loglikelihood_rolling(requests, disable_tqdm=disable_tqdm)
            finally:
                self._max_length = whole

        def generate_until(self, requests: Any, disable_tqdm: bool = True) -> Any:
            self._begin(requests)
            return super().generate_until(requests, disable_tqdm=disable_tqdm)

        def _loglikelihood_tokens(self, requests: Any, **options: Any) -> Any:
            return super()._loglikelihood_tokens(requests, **{**options, "disable_tqdm": True})

        def _model_call(self, inps: Any, *args: Any, **options: Any) -> Any:
            self._go_on(len(inps))
            return super()._model_call(inps, *args, **options)

        def _model_generate(self, context: Any, *args: Any, **options: Any) -> Any:
            self._go_on(len(context))
            return super()._model_generate(context, *args, **options)

        def _begin(self, requests: Any) -> None:
            self.done, self.total = 0, len(requests)

        def _go_on(self, num_rows: int) -> None:
            if should_stop is not None and should_stop():
                raise StopRequested
            if on_progress is not None:
                on_progress(f"{name}, lm-evaluation-harness", self.done, self.total)
            self.done = min(self.done + num_rows, self.total)

    # It sets the tokenizer's padding, so it gets one of its own.
    return Watched(
        pretrained=model.module,
        tokenizer=copy.deepcopy(model.tokenizer),
        backend="causal",
        batch_size=batch_size,
        max_length=model.max_length,
    )


def _results(
    asked: _Asked, output: Mapping[str, Any], model: LanguageModel
) -> Iterator[ItemResult]:
    """Yield a result for each document, filter and metric whose score is the document's own."""
    for task, samples in output["samples"].items():
        shots = int(output["n-shot"].get(task) or 0)
        for sample in samples:
            for metric in sample["metrics"]:
                score, weight = _score(metric, sample[metric])
                if score is None:
                    continue
                is_read = metric == BITS_PER_BYTE
                style: Style = "none" if is_read else "few-shot" if shots else "zero-shot"
                response, answer = ("", None) if is_read else _answer(sample)
                yield ItemResult(
                    task=asked.name if asked.is_group else task,
                    item=_item(task if asked.is_group else "", sample),
                    metric=_metric(metric, sample["filter"]),
                    style=style,
                    form=model.form,
                    prompt=str(sample["arguments"][0][0]),
                    gold=str(sample["target"]),
                    response=response,
                    answer=answer,
                    score=score,
                    weight=weight,
                    group=task if asked.is_group else "",
                    shots=shots,
                    lower_is_better=output["higher_is_better"].get(task, {}).get(metric) is False,
                )


def _score(metric: str, value: Any) -> tuple[float | None, float]:
    """Return a document's score and weight; None for what only all documents together have."""
    match value:
        case (logprob, num_bytes) if metric == BITS_PER_BYTE and num_bytes:
            return -logprob / math.log(2) / num_bytes, float(num_bytes)
        case SupportsFloat():  # floats of NumPy and torch among them
            return float(value), 1.0
        case _:
            return None, 1.0


def _metric(metric: str, of_filter: str) -> str:
    """Return a metric as the harness writes it, its filter only where it has one."""
    return metric if of_filter == _NO_FILTER else f"{metric},{of_filter}"


def _item(task: str, sample: Mapping[str, Any]) -> str:
    place = f"{sample['doc_id']}-{sample['doc_hash'][:12]}"
    return f"{task} {place}" if task else place


def _answer(sample: Mapping[str, Any]) -> tuple[str, str | None]:
    """Return what was written and what the filter made of it; of choices, the likeliest."""
    filtered = sample["filtered_resps"]
    if len(filtered) > 1 and all(isinstance(each, tuple | list) for each in filtered):
        likeliest = max(range(len(filtered)), key=lambda index: filtered[index][0])
        chosen = str(sample["arguments"][likeliest][1])
        return chosen, chosen.strip()
    written = sample["resps"][0][0]
    return (written, str(filtered[0])) if isinstance(written, str) else ("", None)


def _notes(
    asked: _Asked, output: Mapping[str, Any], results: Sequence[ItemResult]
) -> Iterator[str]:
    """Yield a sentence on each figure of the harness that is no mean over our results."""
    ours: dict[tuple[str, str], list[ItemResult]] = {}
    for result in results:
        ours.setdefault((result.task, result.metric), []).append(result)
    names = [asked.name] if asked.is_group else output["samples"]
    for task in names:
        for key, value in output["results"].get(task, {}).items():
            metric, comma, of_filter = key.partition(",")
            if not comma or metric.endswith("_stderr"):
                continue
            items = ours.get((task, _metric(metric, of_filter)), [])
            scores, weights = [r.score or 0.0 for r in items], [r.weight for r in items]
            if not items or not math.isclose(mean(scores, weights), value, abs_tol=1e-6):
                said = f"`{task} {_metric(metric, of_filter)}` is {float(value):.6g}"
                yield f"{said} by lm-evaluation-harness: no mean over items, so without interval."
