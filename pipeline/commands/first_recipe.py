"""The recipe that `posttrain init` writes: from what a user has to what they want, with comments.

Text in, text out; first_recipe_data.py has looked at the user's files before. The recipe is written
to be read and changed: every key that a beginner would look for is there, some commented out.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from pipeline.commands.first_recipe_data import SHARE_HELD_OUT
from pipeline.errors import PosttrainError

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from pipeline.commands.first_recipe_data import Kind, OwnData

Goal = Literal["sft", "dpo", "kto", "ppo", "pretrain", "evaluate"]
GOALS: dict[Goal, str] = {
    "sft": "answer as demonstrations show",
    "dpo": "prefer what pairs prefer (after sft, where there are demonstrations too)",
    "kto": "give answers that were wanted, not the others: thumbs up and down (after sft, too)",
    "ppo": "earn rewards: of a reward model trained on pairs, or of a function of yours",
    "pretrain": "read on in texts",
    "evaluate": "measure a model, and train nothing",
}
_NEEDS: dict[Goal, tuple[Kind, ...]] = {
    "sft": ("demonstrations",),
    "dpo": ("pairs",),
    "kto": ("thumbs", "pairs"),
    "ppo": ("prompts", "pairs", "demonstrations"),
    "pretrain": ("texts",),
    "evaluate": (),
}
_PLAIN = re.compile(r"[A-Za-z0-9_./-][A-Za-z0-9_./@+-]*")
_BYTES_PER_TOKEN = 4  # of English, by common tokenizers
_SEQUENCE_LENGTH = 256


@dataclass(frozen=True)
class Wish:
    """What is wanted. reward: `module:function`, or a reward model, for ppo without pairs.

    trains_adapter: LoRA, for what is not small. has_gpu: then bf16. cuts_pairs: at which end pairs
    that are too long are cut, where most of them are; "" where they are left out.
    """

    name: str
    model: str
    data: tuple[OwnData, ...]
    goal: Goal
    reward: str | None = None
    trains_adapter: bool = True
    has_gpu: bool = False
    cuts_pairs: str = ""

    def of(self, kind: Kind) -> list[OwnData]:
        """Return the sources of one kind."""
        return [source for source in self.data if source.kind == kind]


def goal_of(kinds: Sequence[Kind]) -> Goal:
    """Return what data of these kinds is most likely meant for."""
    if "thumbs" in kinds:
        return "kto"  # which takes pairs too
    if "pairs" in kinds:
        return "dpo"
    if "demonstrations" in kinds:
        return "sft"
    return "pretrain" if "texts" in kinds else "ppo" if "prompts" in kinds else "evaluate"


def check_wish(wish: Wish) -> None:
    """Raise PosttrainError where the data is none for the goal, or a reward has no use there."""
    needs = _NEEDS[wish.goal]
    if needs and not any(wish.of(kind) for kind in needs):
        message = f"`{wish.goal}` needs {' or '.join(needs)}"
        sources = ", ".join(f"`{source.name}` has {source.kind}" for source in wish.data)
        raise PosttrainError(
            "--goal", f"{message}, and {sources or 'no data is given'}", "give --data"
        )
    if wish.reward is not None and wish.goal != "ppo":
        message = f"`{wish.goal}` learns from no reward"
        raise PosttrainError("--reward", message, "leave it out, or write --goal ppo")
    if wish.goal == "ppo" and not wish.of("pairs") and wish.reward is None:
        hint = "give pairs, of which a reward model is trained, or --reward MODULE:FUNCTION"
        raise PosttrainError("--goal", "`ppo` needs something that rewards", hint)


def sources_without_use(wish: Wish, recipe: str) -> list[str]:
    """Return the sources that a recipe's text does not name."""
    return [source.name for source in wish.data if f": {_scalar(source.name)}" not in recipe]


def recipe_text(wish: Wish, *, schema: str | None = None) -> str:
    """Return the recipe; schema: where an editor finds the schema, from the recipe."""
    goal = GOALS[wish.goal]
    lines = [
        *([f"# yaml-language-server: $schema={schema}"] if schema else []),
        f"# {goal[:1].upper()}{goal[1:]}.",
        "# `posttrain check` reads every row, `posttrain run` does it.",
        f"name: {_scalar(wish.name)}",
        "seed: 7 # another seed, another sample of what could have come out",
        "stages:",
        *_stages(wish),
    ]
    return "\n".join(lines) + "\n"


def _stages(wish: Wish) -> Iterator[str]:
    model, made = _scalar(wish.model), list[str]()
    if wish.goal == "pretrain":
        yield from _pretrain(wish)
        made.append("pretrain")
    if wish.goal in ("sft", "dpo", "kto", "ppo") and wish.of("demonstrations"):
        yield from _sft(wish, model)
        model = "$sft"
        made.append("sft")
    if wish.goal in ("dpo", "kto"):
        yield from _preferences(wish, model)
        made.append(wish.goal)
    if wish.goal == "ppo":
        yield from _ppo(wish, model)
        made.append("ppo")
    yield from _evaluation(wish, made)


def _pretrain(wish: Wish) -> Iterator[str]:
    texts = wish.of("texts")
    size_bytes = sum(source.size_bytes or 4_000_000 for source in texts)
    rows = 16 if size_bytes > 16 * _SEQUENCE_LENGTH * _BYTES_PER_TOKEN * 4 else 1
    tokens = max(size_bytes // _BYTES_PER_TOKEN, rows * _SEQUENCE_LENGTH)
    yield "  pretrain:"
    yield "    stage: pretrain"
    yield f"    model: {_scalar(wish.model)} # a hub id, or a folder from this file"
    yield from _data("data", texts, holds_out=True)
    yield f"    tokens: {tokens} # to train on: about once over these texts"
    yield f"    sequence_length: {_SEQUENCE_LENGTH}"
    yield f"    batch_size: {rows} # sequences per optimizer step"
    yield from _training(wish)


def _sft(wish: Wish, model: str) -> Iterator[str]:
    data = wish.of("demonstrations")
    yield "  sft:"
    yield "    stage: sft"
    yield f"    model: {model} # a hub id, or a folder from this file"
    yield from _data("data", data, holds_out=True)
    yield f"    batch_size: {_batch(data)} # rows per optimizer step over all devices"
    yield from _training(wish, "num_train_epochs: 1")
    yield ""


def _preferences(wish: Wish, model: str) -> Iterator[str]:
    data = [*(wish.of("thumbs") if wish.goal == "kto" else []), *wish.of("pairs")]
    yield f"  {wish.goal}:"
    yield f"    stage: {wish.goal}"
    where = "the stage above" if model == "$sft" else "a hub id, or a folder from this file"
    yield f"    model: {model} # {where}"
    yield from _data("data", data, holds_out=True)
    fewest = 2 if wish.goal == "kto" else 1  # its KL term needs another row
    yield f"    batch_size: {max(fewest, _batch(data))}"
    yield from _too_long(wish)
    yield from _training(wish, "num_train_epochs: 1, beta: 0.1")
    yield ""


def _ppo(wish: Wish, model: str) -> Iterator[str]:
    pairs = wish.of("pairs")
    reward = f"{{use: {_scalar(wish.reward)}}}" if wish.reward and ":" in wish.reward else None
    reward = reward or f"{{model: {_scalar(wish.reward or '$preference')}}}"
    if pairs:
        yield "  preference: # scores a response as the pairs would"
        yield "    stage: reward_model"
        yield f"    model: {model}"
        yield from _data("data", pairs, holds_out=True)
        yield f"    batch_size: {_batch(pairs)}"
        yield from _too_long(wish)
        yield from _training(wish, "num_train_epochs: 1")
        yield ""
    prompts = wish.of("prompts") or pairs or wish.of("demonstrations")
    yield "  ppo:"
    yield "    stage: ppo"
    yield f"    model: {model} # as it comes in, it is also what the policy is kept close to"
    yield from _data("prompts", prompts)
    yield f"    reward: [{reward}] # a sum; a function of yours is `{{use: file:function}}`"
    yield "    missing_eos_penalty: 1.0 # taken off a response that does not end"
    yield "    kl: {coef: 0.05} # how much moving away costs; `target: 6` steers it, in nats"
    yield "    batch_size: 16 # responses per optimizer step"
    yield from _training(wish, "total_episodes: 512, max_completion_length: 64")
    yield ""


def _too_long(wish: Wish) -> Iterator[str]:
    if wish.cuts_pairs:
        yield "    too_long: truncate # most pairs are longer than the model has positions"
        yield f"    truncation_side: {wish.cuts_pairs} # the other end is kept"
    else:
        yield "    # too_long: truncate # pairs that are too long are cut, not left out"


def _training(wish: Wish, arguments: str = "") -> Iterator[str]:
    if wish.trains_adapter:
        yield "    lora: {r: 16} # an adapter; without this line all weights are trained"
    else:
        yield "    # lora: {r: 16} # train an adapter instead of all weights"
    if wish.has_gpu:
        yield "    precision: bf16"
    else:
        yield "    # precision: bf16 # on a GPU, or a CPU with AMX (`posttrain doctor`)"
    if arguments:
        yield f"    training_args: {{{arguments}}} # upstream's own names"


def _evaluation(wish: Wish, made: Sequence[str]) -> Iterator[str]:
    is_trained_on = wish.goal == "pretrain"
    own = [*wish.of("demonstrations"), *wish.of("pairs")]
    unseen = [source for source in own if source.can_hold_out or not made]
    texts = [
        source
        for source in wish.of("texts")
        if not source.is_on_hub and (source.can_hold_out or not is_trained_on)
    ]
    measured = [
        "    tasks: [facts, arithmetic] # `posttrain list tasks`; one of yours: `file:Class`"
    ]
    if is_trained_on and texts:
        measured = []
    if unseen or texts:
        measured.append("    texts: # bits per byte, of chats and pairs those of the answers")
        measured += _rows(unseen, holds_out=bool(made))
        measured += _rows(texts, holds_out=is_trained_on)
    if wish.of("prompts") and wish.goal != "ppo":
        measured += _data("prompts", wish.of("prompts"))
    if not made:
        yield "  evaluate:"
        yield "    stage: evaluate"
        yield f"    model: {_scalar(wish.model)}"
    else:
        candidates = ", ".join(f"${name}" for name in made)
        yield "  compare: # what was gained, and what was lost, with intervals"
        yield "    stage: compare"
        yield f"    baseline: {_scalar(wish.model)}"
        yield f"    candidates: [{candidates}]"
    yield from measured
    yield "    limit: 100 # test items per task"


def _data(key: str, sources: Sequence[OwnData], *, holds_out: bool = False) -> Iterator[str]:
    yield f"    {key}:"
    yield from _rows(sources, holds_out=holds_out)


def _rows(sources: Sequence[OwnData], *, holds_out: bool) -> Iterator[str]:
    for source in sources:
        parts = [f"{'hub' if source.is_on_hub else 'file'}: {_scalar(source.name)}"]
        comment = "" if source.num_rows is None else f" # {source.num_rows} rows"
        if source.columns:
            renamed = ", ".join(f"{ours}: {_scalar(own)}" for ours, own in source.columns.items())
            parts.append(f"columns: {{{renamed}}}")
            comment += f"{',' if comment else ' #'} columns guessed: ours: yours"
        if source.separator:
            parts.append(f"separator: {json.dumps(source.separator)}")
        if holds_out and source.can_hold_out:
            parts.append(f"holdout: {SHARE_HELD_OUT}")
            comment += f"{',' if comment else ' #'} a tenth is kept for measuring"
        yield f"      - {{{', '.join(parts)}}}{comment}"


def _batch(sources: Sequence[OwnData]) -> int:
    """Return a batch size that leaves a few dozen steps an epoch where there are rows enough."""
    rows = sum(source.num_rows or 10_000 for source in sources)
    return next((size for size in (16, 8, 4, 2) if rows >= 16 * size), 1)


def _scalar(text: str) -> str:
    """Return a text as YAML reads it back."""
    is_plain = _PLAIN.fullmatch(text) and not re.fullmatch(
        r"[\d.eE+_-]+|true|false|null|yes|no|on|off|~", text, re.I
    )
    is_reference = re.fullmatch(r"\$[\w.-]+", text)
    return text if is_plain or is_reference else json.dumps(text, ensure_ascii=False)
