"""The cells of the matrix: a stage on a model, as a recipe runs it, and what is wrong with it.

A cell is right, or refused by the product before it trains, or wrong; nothing here knows which
architecture is which.
"""

from __future__ import annotations

import json
import math
import shutil
import tempfile
import traceback
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import torch

from pipeline import load_recipe, run_recipe
from pipeline.errors import PosttrainError
from tests.matrix import oracle
from tests.matrix.architectures import named
from tests.matrix.bench import CHATS, COLUMNS, DOCUMENTS, REJECTED, Bench, Column, bench

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

Verdict = Literal["right", "refused", "wrong"]
STAGES = ("pretrain", "sft", "reward_model", "dpo", "kto", "ppo", "evaluate", "merge", "export")

# Sums in another order; a leak, a wrong position or a lost scale is a hundred times as much.
TOLERANCE = 2e-4


@dataclass(frozen=True)
class Outcome:
    """What became of a cell; said: why it was refused, or what is wrong."""

    verdict: Verdict
    said: str = ""


def row(name: str) -> dict[tuple[Column, str], Outcome]:
    """Return every cell of an architecture."""
    with tempfile.TemporaryDirectory() as folder:
        made = bench(named(name), Path(folder))
        return {(c, stage): outcome(made, c, stage) for c in COLUMNS for stage in STAGES}


def outcome(made: Bench, column: Column, stage: str) -> Outcome:
    """Run a cell and compare it with the oracle."""
    before = made.trained()
    try:
        found = list(_CHECKS[stage](made, column))
    except PosttrainError as error:
        if made.trained() - before:
            return Outcome("wrong", f"stopped only after it trained: {error}")
        said = f"{error.message}; {error.hint}" if error.hint else error.message
        return Outcome("refused", said.replace(f"{made.folder}/", ""))
    except Exception as error:  # noqa: BLE001  whatever it is, it reached the user as a traceback
        place = traceback.extract_tb(error.__traceback__)[-1]
        where = f"{Path(place.filename).name}:{place.lineno}"
        return Outcome("wrong", f"{type(error).__name__} at {where}: {error}".splitlines()[0][:300])
    wrong = [f"{what} {off:.1e}" for what, off in found if not off <= TOLERANCE]
    return Outcome("wrong", "; ".join(wrong)) if wrong else Outcome("right")


def _ran(made: Bench, column: Column, stage: str, *, keep: Any = None) -> Path:
    """Run one stage of the recipe; return the folder of its artifact."""
    from pipeline.run.runner import Selection

    recipe = load_recipe(made.recipe(column, stage))
    with _before_saving(keep or (lambda module: None)):
        ended = run_recipe(recipe, runs=made.folder / "runs", selection=Selection(only=stage))
    made.stages[column, stage] = ended[-1].artifact.path
    return made.stages[column, stage]


@contextmanager
def _before_saving(look: Callable[[Any], None]) -> Iterator[None]:
    """Look at every model that a stage has trained, just before it is saved."""
    from pipeline.models import save
    from pipeline.training import on_rows  # it has the function by a name of its own

    save_trained = save.save_trained

    def looked(trained: Any, *rest: Any, **named: Any) -> Any:
        look(trained.eval())
        return save_trained(trained, *rest, **named)

    save.save_trained = on_rows.save_trained = looked
    try:
        yield
    finally:
        save.save_trained = on_rows.save_trained = save_trained


def _ids(made: Bench, text: str) -> list[int]:
    from transformers import AutoTokenizer

    return AutoTokenizer.from_pretrained(made.model)(text, add_special_tokens=False)["input_ids"]


def _asked(made: Bench, text: str) -> list[int]:
    return _ids(made, f"<|user|>{text}<|end|><|assistant|>")


def _answered(made: Bench, text: str) -> list[int]:
    return _ids(made, f"{text}<|end|>")


def _chat_rows(made: Bench, answers: Any = tuple(b for _, b in CHATS)) -> list[oracle.Row]:
    texts = zip((a for a, _ in CHATS), answers, strict=True)
    return [(_asked(made, a), _answered(made, b)) for a, b in texts]


def _whole(rows: list[oracle.Row]) -> list[list[int]]:
    return [[*given, *predicted] for given, predicted in rows]


def _first_line(folder: Path) -> dict[str, Any]:
    return json.loads((folder / "metrics.jsonl").read_text().splitlines()[0])


def _largest_gap(one: list[torch.Tensor], other: list[torch.Tensor]) -> float:
    """Return the largest difference, of the largest number where that is above 1."""
    if len(one) != len(other):
        return math.inf
    scale = max(1.0, *(float(each.abs().max()) for each in other))
    gaps = [
        float((a - b).abs().nan_to_num(nan=math.inf).max()) for a, b in zip(one, other, strict=True)
    ]
    return max(gaps) / scale


def _trained_and_saved(
    made: Bench, column: Column, stage: str, rows: list[list[int]], auto: Callable[..., Any]
) -> Iterator[tuple[str, float]]:
    """Run a stage; yield how far what was saved is from what was trained."""
    seen: list[torch.Tensor] = []
    _ran(
        made, column, stage, keep=lambda module: seen.extend(oracle.logits(module, r) for r in rows)
    )
    model = made.finished(column, stage, auto)
    yield "saved and loaded", _largest_gap(seen, [oracle.logits(model, row) for row in rows])


def _pretrain(made: Bench, column: Column) -> Iterator[tuple[str, float]]:
    ids = [[*_ids(made, text), 1] for text in DOCUMENTS]
    rows = [(each[:1], each[1:]) for each in ids]
    yield from _trained_and_saved(made, column, "pretrain", ids, oracle.language_model)
    loss = _first_line(made.stages[column, "pretrain"])["loss"]
    possible = oracle.mean_losses_of_parts(made.began(column), rows)
    yield "first loss", min(abs(loss - each) for each in possible)


def _sft(made: Bench, column: Column) -> Iterator[tuple[str, float]]:
    rows = _chat_rows(made)
    yield from _trained_and_saved(made, column, "sft", _whole(rows), oracle.language_model)
    loss = _first_line(made.stages[column, "sft"])["loss"]
    yield "first loss", abs(loss - oracle.mean_loss(made.began(column), rows))


def _reward_model(made: Bench, column: Column) -> Iterator[tuple[str, float]]:
    from pipeline.config.stage import StageInput
    from pipeline.models.reward import load_reward_model
    from reward.model import scores

    chosen, rejected = _whole(_chat_rows(made)), _whole(_chat_rows(made, REJECTED))
    rows = chosen + rejected
    loss = _first_line(_ran(made, column, "reward_model_still"))["loss"]
    still = made.finished(column, "reward_model_still", oracle.reward_model)
    pairs = list(zip(chosen, rejected, strict=True))
    yield "first loss", abs(loss - oracle.preference_loss(still, pairs))
    yield from _trained_and_saved(made, column, "reward_model", rows, oracle.reward_model)
    folder = made.stages[column, "reward_model"]
    plain = made.finished(column, "reward_model", oracle.reward_model)
    ours = load_reward_model(StageInput("it", "reward_model", str(folder)))
    expected = torch.cat([oracle.logits(plain, row) for row in rows])
    yield "scores", float((torch.tensor(scores(ours, rows)) - expected).abs().max())


def _dpo(made: Bench, column: Column) -> Iterator[tuple[str, float]]:
    chosen, rejected = _chat_rows(made), _chat_rows(made, REJECTED)
    rows = _whole(chosen + rejected)
    yield from _trained_and_saved(made, column, "dpo", rows, oracle.language_model)
    line, model = _first_line(made.stages[column, "dpo"]), made.began(column)
    yield "first loss", abs(line["loss"] - math.log(2))
    yield "log-ratio", abs(line["rewards/margins"])
    for name, given in (("chosen", chosen), ("rejected", rejected)):
        sums = [float(oracle.logprobs(model, row).sum()) for row in given]
        yield f"log p of {name}", abs(line[f"logps/{name}"] - sum(sums) / len(sums))


def _kto(made: Bench, column: Column) -> Iterator[tuple[str, float]]:
    chosen, rejected = _chat_rows(made), _chat_rows(made, REJECTED)
    rows = _whole(chosen + rejected)
    yield from _trained_and_saved(made, column, "kto", rows, oracle.language_model)
    line, model = _first_line(made.stages[column, "kto"]), made.began(column)
    yield "first loss", abs(line["loss"] - 0.5)
    yield "log-ratios", abs(line["rewards/chosen"]) + abs(line["rewards/rejected"]) + line["kl"]
    for name, given in (("chosen", chosen), ("rejected", rejected)):
        sums = [float(oracle.logprobs(model, row).sum()) for row in given]
        yield f"log p of {name}", abs(line[f"logps/{name}"] - sum(sums) / len(sums))


def _ppo(made: Bench, column: Column) -> Iterator[tuple[str, float]]:
    scored: list[Any] = []
    rows = _whole(_chat_rows(made))
    with _rollouts_kept(scored):
        yield from _trained_and_saved(made, column, "ppo", rows, oracle.language_model)
    model = made.began(column)
    # The padding token ends nothing and is never sampled.
    for row in scored:
        found = oracle.logits(model, [*row.prompt_ids, *row.completion_ids])
        found = found[len(row.prompt_ids) - 1 : -1]
        found[:, 0] = -torch.inf
        expected = found.log_softmax(-1).gather(-1, torch.tensor(row.completion_ids)[:, None])[:, 0]
        for name in ("sampled", "logprobs", "reference"):
            yield f"{name} log p", float((getattr(row, name) - expected).abs().max())


@contextmanager
def _rollouts_kept(scored: list[Any]) -> Iterator[None]:
    """Keep the rows of every rollout."""
    from pipeline.rl import trainer

    experience_of = trainer.experience_of

    def kept(rows: Any, *rest: Any) -> Any:
        scored.extend(rows)
        return experience_of(rows, *rest)

    trainer.experience_of = kept
    try:
        yield
    finally:
        trainer.experience_of = experience_of


def _evaluate(made: Bench, column: Column) -> Iterator[tuple[str, float]]:
    from eval.asking.loglik import continuation_logprobs
    from eval.asking.sampler import generate
    from pipeline.config.stage import StageInput
    from pipeline.models.language import language_model

    folder = _ran(made, column, "evaluate")
    plain = made.began(column)
    ids = [[*_ids(made, text)] for text in DOCUMENTS]
    nats = -sum(float(oracle.logprobs(plain, (each[:1], each[1:])).sum()) for each in ids)
    bits = nats / math.log(2) + len(ids) * math.log2(plain.get_input_embeddings().num_embeddings)
    metrics = json.loads((folder / "artifact.json").read_text())["metrics"]
    said = [value for name, value in metrics.items() if "bits_per_byte" in name]
    yield "bits per byte", abs(said[0] - bits / sum(len(text) for text in DOCUMENTS))
    source = made.model if column == "full" else made.adapter
    model = language_model(StageInput("it", "policy", str(source)), form=None, precision="fp32")
    rows = _chat_rows(made) + _chat_rows(made, REJECTED)
    ours = torch.tensor(continuation_logprobs(model, rows, batch_size=8))
    expected = torch.stack([oracle.logprobs(plain, row).sum() for row in rows])
    yield "log-likelihoods", float((ours - expected).abs().max())
    # A beginning that all rows share, long enough to be run once for all of them.
    shared = [([*rows[1][0], *given], predicted) for given, predicted in rows]
    ours = torch.tensor(continuation_logprobs(model, shared, batch_size=8))
    expected = torch.stack([oracle.logprobs(plain, row).sum() for row in shared])
    yield "log-likelihoods after a shared beginning", float((ours - expected).abs().max())
    for prompts in ([given for given, _ in rows[:4]], [given for given, _ in shared[:4]]):
        written = generate(model, prompts, max_new_tokens=6, batch_size=4, seed=0)
        for prompt, ours_here in zip(prompts, written, strict=True):
            wanted = oracle.greedy(plain, prompt, len(ours_here.token_ids))
            yield "greedy tokens", float(list(ours_here.token_ids) != wanted)


def _merge(made: Bench, column: Column) -> Iterator[tuple[str, float]]:
    folder = _ran(made, column, "merge")
    rows = _whole(_chat_rows(made))
    merged, plain = oracle.language_model(folder), made.began(column)
    expected = [oracle.logits(plain, row) for row in rows]
    yield "merged logits", _largest_gap([oracle.logits(merged, row) for row in rows], expected)


def _export(made: Bench, column: Column) -> Iterator[tuple[str, float]]:
    """Export what a stage made, if any was, else what was taken in; merged too, if an adapter."""
    trained = [each for each in ("sft", "pretrain", "dpo") if (column, each) in made.stages]
    stage = trained[0] if trained else "adopt" if column == "full" else "first"
    if stage not in trained:
        _ran(made, column, stage)
    rows = _whole(_chat_rows(made))
    plain = made.finished(column, stage, oracle.language_model)
    expected = [oracle.logits(plain, row) for row in rows]
    for is_merged in (None,) if column == "full" else (False, True):
        out = made.folder / f"exported-{column}-{is_merged}"
        shutil.rmtree(out, ignore_errors=True)
        _exported(made, column, stage, out, is_merged=is_merged)
        base = None
        if (out / "adapter_config.json").is_file():
            named = json.loads((out / "adapter_config.json").read_text())["base_model_name_or_path"]
            base = made.model if not named.startswith("./") else out / named
        model = oracle.language_model(out, base)
        found = [oracle.logits(model, row) for row in rows]
        yield "exported logits", _largest_gap(found, expected)


def _exported(
    made: Bench, column: Column, stage: str, out: Path, *, is_merged: bool | None
) -> None:
    from pipeline.commands.export import prepare, write
    from pipeline.plan.plan import make as plan_of
    from pipeline.store.store import Store

    store = Store(made.folder / "runs")
    plan = plan_of(load_recipe(made.recipe(column, stage)), store)
    export = prepare(plan, stage, merged=is_merged)
    write(export, store, out, force=False, card=lambda asked: "a card\n")


_CHECKS: dict[str, Callable[[Bench, Column], Iterator[tuple[str, float]]]] = {
    "pretrain": _pretrain,
    "sft": _sft,
    "reward_model": _reward_model,
    "dpo": _dpo,
    "kto": _kto,
    "ppo": _ppo,
    "evaluate": _evaluate,
    "merge": _merge,
    "export": _export,
}
