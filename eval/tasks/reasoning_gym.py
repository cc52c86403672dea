"""The procedural datasets of reasoning-gym, each a task by its name (Stojanovski et al. 2025).

    reasoning_gym(name=leg_counting, max_animals=5)

Questions, answers and scores are the library's; what is ours is that splits share no question.
Which split a question is in follows from its text alone, so that a training set never has a test
item, nor its twin, however small a dataset's range is.
"""

import dataclasses
import json
import typing
from collections.abc import Collection, Iterator, Mapping
from difflib import get_close_matches
from functools import lru_cache
from importlib.metadata import version as release_of
from importlib.util import find_spec
from itertools import count, islice
from typing import Any, ClassVar

from eval.task import Example, Split, Task, split_of
from eval.tasks.benchmark import digest
from reward.verdict import Verdict
from reward.verifiers.gym import gym_score, make_setup

# What cannot be used, and why; tests/prove/test_every_generator.py tries all others.
REFUSED = {
    "boxnet": "it gives no answer of its own",
    "rush_hour": "it gives no answer of its own",
    "game_of_life_halting": "its grader takes any text for right",
    "composite": "it mixes others: name each of them as a task",
    **dict.fromkeys(
        (
            *("isomorphic_strings", "knight_swap", "list_functions"),
            *("polynomial_multiplication", "ransom_note", "word_ladder"),
        ),
        "its questions differ from process to process (sets of texts): a run could not be resumed",
    ),
}
# Where a right answer stands that is not called one.
_ANSWERS = {
    "graph_color": "possible_answer",
    "propositional_logic": "example_answer",
    "rubiks_cube": "example_correct_answer",
}
_OURS = ("seed", "size")
_CHUNK = 500  # items of one dataset object, the library's own default
_STALE = 1_000  # questions in a row that were there before: the dataset has no others
_DOCUMENTS = 2_000  # of one pass
_KEPT = 4_096  # entries in memory
_BETWEEN = "|"  # of the members of a list in a setting


class ReasoningGym(Task):
    """Questions of one dataset.

    name: of the dataset. seed: of its questions. max_new_tokens: of a response. settings: those of
    the dataset's config, lists with `|` between their members.
    """

    name = "reasoning_gym"
    version = 1
    kind = "skill"
    summary = "any of the 100 generators of reasoning-gym: reasoning_gym(name=leg_counting)"
    document_stop: ClassVar[tuple[str, ...]] = ("\n\n",)

    def __init__(
        self, name: str = "", seed: int = 0, max_new_tokens: int = 512, **settings: Any
    ) -> None:
        self._dataset_name = name
        self._seed = seed
        self.max_new_tokens = max_new_tokens
        self._settings = _checked_settings(name, settings)
        self.source = f"reasoning-gym {release_of('reasoning-gym')}"
        self._setup = make_setup(name, {**self._settings, "seed": seed, "size": _CHUNK})
        self._chunk = lru_cache(maxsize=2)(self._make_chunk)
        self._entry = lru_cache(maxsize=_KEPT)(self._make_entry)
        self._grade = lru_cache(maxsize=256)(self._grade_response)
        try:
            self._entry(0)
        except (AssertionError, ValueError, TypeError, KeyError, IndexError) as error:
            raise ValueError(f"`{name}` of reasoning-gym: {_line(error)}") from error

    def examples(self, split: Split) -> Iterator[Example]:
        """Yield the split's questions, each once; few where the dataset has few."""
        return self._from(0, split)

    def documents(self, seed: int) -> Iterator[str]:
        """Yield questions of the train split with their answers, others for another seed."""
        begin = (seed + 1) * _CHUNK * _DOCUMENTS
        for example in islice(self._from(begin, "train"), _DOCUMENTS):
            yield f"{example.document}{example.continuation}"

    def verify(self, response: str, reference: str) -> Verdict:
        """Score a response as the dataset does; None where it cannot be graded."""
        return self._grade(response, reference)

    def _from(self, begin: int, split: Split) -> Iterator[Example]:
        known: set[str] = set()
        stale = 0
        for number in count(begin):
            entry = self._entry(number)
            stale = 0 if entry is not None and entry["id"] not in known else stale + 1
            if stale > _STALE:
                return
            if stale == 0 and entry is not None:
                known.add(entry["id"])
                if split_of(entry["id"], validation=0.2, test=0.3) == split:
                    yield self._example(number, entry)

    def _example(self, number: int, entry: Mapping[str, Any]) -> Example:
        question, answer = entry["question"], entry["answer"]
        return Example(
            id=entry["id"],
            prompt=question,
            response=answer,
            reference=json.dumps({"item": number, "answer": answer}, ensure_ascii=False),
            document=f"{question}\nAnswer:",
            continuation=f" {answer}",
        )

    def _grade_response(self, response: str, reference: str) -> Verdict:
        try:
            stated = json.loads(reference)
            entry = self._entry(int(stated["item"]))
        except (ValueError, TypeError, KeyError) as error:
            return Verdict(None, None, f"the reference is of no item: {_line(error)}")
        if entry is None or entry["answer"] != stated.get("answer"):
            reason = "the reference is of other settings, or of another version of reasoning-gym"
            return Verdict(None, None, reason)
        return gym_score(response, entry, self._setup)

    def _make_entry(self, number: int) -> Mapping[str, Any] | None:
        """Return a question with its answer; None where the dataset finds none for this number."""
        chunk, place = divmod(number, _CHUNK)
        dataset = self._chunk(chunk)
        try:
            entry = dataset[place]
        except (ValueError, RuntimeError):
            if number == 0:
                raise
            return None  # its search for a question ended without one
        if (column := _ANSWERS.get(self._dataset_name)) is not None:
            answer = entry["metadata"][column]
            entry["answer"] = answer if isinstance(answer, str) else json.dumps(answer)
        return {**entry, "id": f"{self._dataset_name} {digest(entry['question'])}"}

    def _make_chunk(self, chunk: int) -> Any:
        gym = _library()
        seed = self._seed + chunk * _CHUNK
        return gym.create_dataset(self._dataset_name, **self._settings, seed=seed, size=_CHUNK)


def _library() -> Any:
    """Return the package. Raises ValueError where it is not installed."""
    if find_spec("reasoning_gym") is None:
        raise ValueError("task `reasoning_gym` needs its package: pip install 'posttrain[gym]'")
    import reasoning_gym

    return reasoning_gym


def _checked_settings(name: str, settings: Mapping[str, Any]) -> dict[str, Any]:
    """Return the settings as the dataset's config takes them; ValueError names what it does not."""
    _library()
    from reasoning_gym.factory import DATASETS

    known = sorted(set(DATASETS) - set(REFUSED))
    if name in REFUSED:
        raise ValueError(f"task `reasoning_gym`: `{name}` cannot be used: {REFUSED[name]}")
    if name not in known:
        said = f"there is no dataset `{name}`" if name else "`name=` says which dataset"
        raise ValueError(f"task `reasoning_gym`: {said}; {_guess(name, known)}")
    config: Any = DATASETS[name][1]
    fields = [each.name for each in dataclasses.fields(config) if each.name not in _OURS]
    types = typing.get_type_hints(config)
    checked: dict[str, Any] = {}
    for key, value in settings.items():
        if key not in fields:
            hint = "rows and items are counted in the recipe" if key == "size" else ""
            hint = hint or _guess(key, fields)
            raise ValueError(f"`{name}` of reasoning-gym has no setting `{key}`; {hint}")
        checked[key] = _typed(name, key, value, types[key])
    return checked


def _typed(name: str, key: str, value: Any, kind: Any) -> Any:
    """Return a setting's value as its field has it."""
    from pydantic import TypeAdapter, ValidationError

    plain = typing.get_origin(kind) or kind
    is_many = plain in (list, tuple) or getattr(plain, "__name__", "") == "Sequence"
    given = [_number(each) for each in str(value).split(_BETWEEN)] if is_many else value
    is_scalar = isinstance(given, bool | int | float)
    try:
        return TypeAdapter(kind).validate_python(given, strict=is_scalar)
    except ValidationError as error:
        message = error.errors()[0]["msg"]
        raise ValueError(f"`{name}` of reasoning-gym: `{key}={value}`: {message}") from error


def _number(text: str) -> int | float | str:
    for read in (int, float):
        try:
            return read(text)
        except ValueError:
            continue
    return text.strip()


def _guess(name: str, known: Collection[str]) -> str:
    near = get_close_matches(name, known, n=1)
    return f"did you mean `{near[0]}`?" if near else f"there are: {', '.join(known) or 'none'}"


def _line(error: BaseException) -> str:
    return " ".join(str(error).split())[:200] or type(error).__name__
