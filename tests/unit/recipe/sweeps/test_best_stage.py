"""What a `best` stage chooses and hands on, from results as stages leave them."""

import os
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from pipeline.config.references import BASE_FOLDER, Places
from pipeline.config.stage import StageContext, StageInput, StageResult
from pipeline.errors import PosttrainError
from pipeline.stages.best import STAGE, BestConfig
from pipeline.store.fingerprint import fingerprint as fingerprint_of
from pipeline.store.lineage import TAKEN_FROM, as_input, parent_of
from pipeline.store.store import Artifact, Store

Publish = Callable[..., Artifact]


@pytest.fixture
def publish(tmp_path: Path) -> Publish:
    """Return what publishes a result with these metrics."""
    store = Store(tmp_path / "runs")

    def call(name: str, **fields: Any) -> Artifact:
        identity = fields.pop("identity", {"name": name, "stage": "sft", "training_args": {}})
        working = store.working("sft", fingerprint_of(identity))
        (working.out / "critic").mkdir(parents=True)
        for file in ("model.safetensors", "critic/value_head.safetensors", "metrics.jsonl"):
            (working.out / file).write_text(name)
        record = {
            **{"name": name, "kind": "sft", "produces": "policy", "properties": {}, "inputs": {}},
            **{"fingerprint": fingerprint_of(identity), "identity": identity, "metrics": {}},
            "provenance": {"seconds": 3.0, "exact": True},
        }
        return store.publish(working, record={**record, **fields})

    return call


def choose(out: Path, results: dict[str, Artifact], **keys: Any) -> StageResult:
    outputs = {
        name: StageInput(name, "policy", str(artifact.path)) for name, artifact in results.items()
    }
    out.mkdir()
    context = StageContext(
        name="best",
        out=out,
        checkpoints=out,
        outputs=outputs,
        seed=1,
        places=Places(out),
        progress=lambda *_: None,
        should_stop=lambda: False,
        seal=lambda *_: None,
    )
    named = {"stage": "best", "models": [f"${name}" for name in results]}
    return STAGE.run(BestConfig.model_validate({**named, **keys}), context)


@pytest.mark.parametrize(
    ("keys", "chosen"),
    [
        ({"by": "loss"}, "b"),
        ({"by": "held_out_accuracy"}, "c"),
        ({"by": "loss", "direction": "highest"}, "a"),
        ({"by": "bits_per_byte"}, "a"),
        ({"by": "bits_per_byte facts"}, "c"),
        ({"by": "steps", "direction": "lowest"}, "a"),
    ],
)
def test_the_best_by_a_metric_is_chosen_and_the_first_of_equals(
    keys: dict[str, str], chosen: str, publish: Publish, tmp_path: Path
) -> None:
    figures = {"a": (3.0, 0.5, 1.0, 2.0), "b": (1.0, 0.6, 2.0, 2.0), "c": (2.0, 0.7, 4.0, 1.5)}
    results = {
        name: publish(
            name,
            metrics={
                **{"steps": 5, "loss": loss, "held_out_accuracy": accuracy},
                **{"bits_per_byte sums": sums, "bits_per_byte facts": facts},
            },
        )
        for name, (loss, accuracy, sums, facts) in figures.items()
    }
    result = choose(tmp_path / "out", results, **keys)
    assert result.metrics["chosen"] == chosen
    assert [each["name"] for each in result.metrics["points"]] == ["a", "b", "c"]
    assert (tmp_path / "out" / "model.safetensors").read_text() == chosen
    assert (tmp_path / "out" / "critic" / "value_head.safetensors").is_file()
    assert not (tmp_path / "out" / "metrics.jsonl").exists()


def test_files_are_linked_or_copied_where_links_are_refused(
    publish: Publish, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    results = {"a": publish("a", metrics={"loss": 1.0})}
    weights = results["a"].path / "model.safetensors"
    choose(tmp_path / "linked", results, by="loss")
    assert (tmp_path / "linked" / "model.safetensors").samefile(weights)

    def refuse(*_: Any) -> None:
        raise OSError(18, "Invalid cross-device link")

    monkeypatch.setattr(os, "link", refuse)
    choose(tmp_path / "copied", results, by="loss")
    assert not (tmp_path / "copied" / "model.safetensors").samefile(weights)
    assert (tmp_path / "copied" / "model.safetensors").read_text() == "a"


@pytest.mark.parametrize(
    ("metrics", "said"),
    [
        ({"steps": 3, "losses": 1.0}, "`b` has no metric `loss`; did you mean `losses`?"),
        ({"loss": float("nan")}, "`loss` of `b` is nan; take it out of the sweep"),
    ],
)
def test_what_has_not_measured_the_metric_is_an_error_not_left_out(
    metrics: dict[str, float],
    said: str,
    publish: Publish,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    artifact = publish("b", metrics={"loss": 1.0})
    broken = replace(artifact, metrics=metrics)
    monkeypatch.setattr("pipeline.stages.best.read", lambda _: broken)
    with pytest.raises(PosttrainError) as raised:
        choose(tmp_path / "out", {"b": artifact}, by="loss")
    assert str(raised.value) == f"best: {said}"


def test_what_a_model_was_trained_from_is_what_the_chosen_one_was(
    publish: Publish, tmp_path: Path
) -> None:
    base = publish("base")
    identity = {"stage": "sft", "model": {"artifact": base.fingerprint}, "training_args": {}}
    tuned = publish(
        "tuned",
        metrics={"loss": 1.0},
        identity=identity,
        inputs={"base": base.fingerprint},
        properties={"form": "chat", BASE_FOLDER: ["../gone", str(base.path)]},
    )
    result = choose(tmp_path / "out", {"tuned": tuned}, by="loss")
    assert result.properties == {
        "form": "chat",
        BASE_FOLDER: str(base.path.resolve()),
        TAKEN_FROM: tuned.path.name,
    }
    best = publish("best", identity={"stage": "best"}, properties=result.properties)
    parent = parent_of(as_input(best, "best"))
    assert parent is not None
    assert parent.name == "base"
