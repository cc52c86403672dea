"""The scaling_law stage on runs as their stages record them: what it reads, fits, leaves out."""

import json
from collections.abc import Callable
from itertools import product
from pathlib import Path
from typing import Any

import pytest

from eval.results import VERIFIED
from eval.statistics.scaling_law import CHINCHILLA_REPLICATED
from pipeline.config.references import Places
from pipeline.config.stage import StageContext, StageInput, StageResult
from pipeline.errors import InterruptedRunError, PosttrainError
from pipeline.report.html import run_of_folder, write
from pipeline.report.scaling import largest_in_words, law_headline
from pipeline.stages.scaling_law import STAGE, ScalingLawConfig
from pipeline.store.fingerprint import fingerprint as fingerprint_of
from pipeline.store.manifest import write_sealed
from pipeline.store.store import Artifact, Store

BITS = 1.4426950408889634  # a nat in bits
SIZES = (20_000, 40_000, 80_000, 160_000)
AMOUNTS = (100_000, 200_000, 400_000, 800_000)
LAW = CHINCHILLA_REPLICATED
Publish = Callable[..., Artifact]


@pytest.fixture
def publish(tmp_path: Path) -> Publish:
    """Return what publishes a stage's result."""
    store = Store(tmp_path / "runs")

    def call(name: str, kind: str, files: dict[str, str], **fields: Any) -> Artifact:
        identity = {"stage": kind, "name": name, "training_args": {"num_train_epochs": 1}}
        working = store.working(kind, fingerprint_of(identity))
        working.out.mkdir(parents=True)
        for file, text in files.items():
            (working.out / file).write_text(text)
        record = {
            **{"name": name, "kind": kind, "produces": "policy", "properties": {}, "inputs": {}},
            **{"fingerprint": fingerprint_of(identity), "identity": identity, "metrics": {}},
            "provenance": {"seconds": 3.0, "finished": "2026-01-02T03:04:05Z"},
        }
        return store.publish(working, record={**record, **fields})

    return call


@pytest.fixture
def runs(publish: Publish) -> dict[str, Artifact]:
    """Return runs whose losses obey a law, by name; the text `other` has half a nat more."""
    found: dict[str, Artifact] = {}
    for size, tokens in product(SIZES, AMOUNTS):
        loss = LAW.loss(size, tokens)
        metrics = {
            "parameters": size,
            "trained_tokens": tokens,
            "bits_per_byte_before text": 8.0,
            "bits_per_byte text": loss * BITS,
            "bits_per_byte other": (loss + 1) * BITS,
        }
        name = f"base[size={size},tokens={tokens}]"
        found[name] = publish(name, "pretrain", {"tokenizer.json": "{}"}, metrics=metrics)
    return found


def run(artifacts: dict[str, Artifact], should_stop: bool = False, **keys: Any) -> StageResult:
    evaluations = [name for name, artifact in artifacts.items() if artifact.kind == "evaluate"]
    named = {
        "stage": "scaling_law",
        "runs": [f"${name}" for name, artifact in artifacts.items() if artifact.kind == "pretrain"],
        "evaluations": [f"${name}" for name in evaluations],
        "text": "text",
        "bootstrap": 3,
    }
    outputs = {
        name: StageInput(name, "policy", str(artifact.path)) for name, artifact in artifacts.items()
    }
    context = StageContext(
        name="law",
        out=Path(),
        checkpoints=Path(),
        outputs=outputs,
        seed=1,
        places=Places(Path()),
        progress=lambda *_: None,
        should_stop=lambda: should_stop,
        seal=lambda *_: None,
    )
    return STAGE.run(ScalingLawConfig.model_validate({**named, **keys}), context)


def answers(*given: tuple[str, str]) -> str:
    rows = [
        {
            **{"model": "m", "task": "sums", "item": f"{n}", "metric": VERIFIED, "gold": gold},
            **{"style": "zero-shot", "form": "document", "prompt": "?", "answer": answer},
            "score": float(answer == gold),
        }
        for n, (answer, gold) in enumerate(given)
    ]
    return "".join(f"{json.dumps(row)}\n" for row in rows)


def test_the_law_behind_the_recorded_losses_is_found_in_nats(runs: dict[str, Artifact]) -> None:
    metrics = run(runs).metrics
    for name in ("E", "alpha", "beta"):
        assert metrics[name] == pytest.approx(getattr(LAW, name), rel=0.02)
    assert metrics["unit"] == "nats per byte"
    of_other = run(runs, text="other").metrics
    assert of_other["E"] == pytest.approx(metrics["E"] + 1, rel=0.02)
    assert run(runs, text=None).metrics["E"] == pytest.approx(metrics["E"] + 0.5, rel=0.02)


def test_the_runs_of_more_than_a_quarter_of_the_compute_are_left_out_and_predicted(
    runs: dict[str, Artifact],
) -> None:
    metrics = run(runs).metrics
    limit = SIZES[-1] * AMOUNTS[-1] / 4
    left_out = {f"base[size={n},tokens={d}]" for n, d in product(SIZES, AMOUNTS) if n * d > limit}
    assert {row["name"] for row in metrics["runs"] if not row["is_fitted"]} == left_out
    assert len(left_out) == metrics["held_out_runs"] == 16 - metrics["fitted_runs"] == 3
    assert metrics["compute_beyond_fit"] == pytest.approx(4)
    assert abs(metrics["prediction_error"]) < 1e-3
    largest = next(row for row in metrics["runs"] if row["compute"] == limit * 24)
    assert largest["predicted"] == pytest.approx(LAW.loss(SIZES[-1], AMOUNTS[-1]), rel=1e-3)
    assert law_headline(metrics).endswith("4.0x the fit's compute")


def test_seeds_of_the_largest_run_are_told_side_by_side(
    runs: dict[str, Artifact], publish: Publish
) -> None:
    *_, largest = runs.values()
    again = {**largest.metrics, "trained_tokens": AMOUNTS[-1] - 100}
    again["bits_per_byte text"] *= 1.01
    runs["seed=2"] = publish("seed=2", "pretrain", {"tokenizer.json": "{}"}, metrics=again)
    metrics = run(runs).metrics
    most = SIZES[-1] * (AMOUNTS[-1] - 101)
    one, other = (row for row in metrics["runs"] if row["parameters"] * row["tokens"] > most)
    assert not one["is_fitted"]
    assert not other["is_fitted"]
    headline = law_headline(metrics)
    assert headline.startswith("2 largest runs predicted ")
    assert headline.endswith("\N{MINUS SIGN}0.99%, 4.0x the fit's compute")
    said = largest_in_words(metrics)
    assert f"measured {one['loss']:.3f}, {other['loss']:.3f}, off by" in said
    assert "% and outside the interval (" in said


def test_runs_to_leave_out_may_be_named(runs: dict[str, Artifact]) -> None:
    named = list(runs)[:3]
    metrics = run(runs, held_out=[f"${name}" for name in named]).metrics
    assert [row["name"] for row in metrics["runs"] if not row["is_fitted"]] == named
    assert metrics["fitted_runs"] == 13


def test_the_best_division_of_a_budget_spends_it(runs: dict[str, Artifact]) -> None:
    (row,) = run(runs, budget=3e12).metrics["budgets"]
    assert 6 * row["parameters"] * row["tokens"] == pytest.approx(3e12)
    assert row["parameters"] == pytest.approx(LAW.allocate(3e12)[0], rel=0.05)


def test_too_few_runs_left_in_the_fit_are_an_error_that_says_so(runs: dict[str, Artifact]) -> None:
    with pytest.raises(PosttrainError, match=r"do not fix.*left out by `held_out`") as error:
        run(runs, held_out=60.0)
    assert error.value.exit_code == 2


def test_runs_of_different_tokenizers_are_refused(
    runs: dict[str, Artifact], publish: Publish
) -> None:
    other = next(iter(runs.values()))
    runs["strange"] = publish(
        "strange", "pretrain", {"tokenizer.json": "[]"}, metrics=dict(other.metrics)
    )
    with pytest.raises(PosttrainError, match="different tokenizers"):
        run(runs)


def test_a_text_that_was_not_measured_is_refused(runs: dict[str, Artifact]) -> None:
    with pytest.raises(PosttrainError, match="no text `third`; it has text, other"):
        run(runs, text="third")


def test_it_stops_on_request(runs: dict[str, Artifact]) -> None:
    with pytest.raises(InterruptedRunError):
        run(runs, should_stop=True)


@pytest.fixture
def asked(runs: dict[str, Artifact], publish: Publish) -> dict[str, Artifact]:
    """Return the runs with evaluations of two of them."""
    small, *_, large = runs
    given = {small: [("13", "23"), ("", "42")], large: [("23", "23"), ("41", "42")]}
    evaluations = {
        f"asked {name}": publish(
            f"asked {name}",
            "evaluate",
            {"items.jsonl": answers(*given[name])},
            inputs={name: runs[name].fingerprint},
        )
        for name in (small, large)
    }
    return {**runs, **evaluations}


def test_a_skill_stands_beside_the_loss_of_its_model(asked: dict[str, Artifact]) -> None:
    small, large = run(asked).metrics["skills"]
    assert (small["exact"], small["partial"], small["n"]) == (0, 0.25, 2)
    assert (large["exact"], large["partial"]) == (0.5, 0.75)
    assert small["loss"] == pytest.approx(LAW.loss(SIZES[0], AMOUNTS[0]))
    assert large["loss"] == pytest.approx(LAW.loss(SIZES[-1], AMOUNTS[-1]))


def test_an_evaluation_of_another_model_is_refused(
    asked: dict[str, Artifact], publish: Publish
) -> None:
    asked["stray"] = publish("stray", "evaluate", {"items.jsonl": answers(("1", "1"))})
    with pytest.raises(PosttrainError, match="`stray` asked a model that is none of `runs`"):
        run(asked)


@pytest.fixture
def page(asked: dict[str, Artifact], publish: Publish, tmp_path: Path) -> str:
    """Return the report of a run with a law."""
    asked["law"] = publish("law", "scaling_law", {}, metrics=run(asked).metrics, produces="files")
    folder = tmp_path / "runs" / "example"
    folder.mkdir()
    stages = {
        name: {
            "kind": artifact.kind,
            "fingerprint": artifact.fingerprint,
            "path": str(artifact.path.relative_to(tmp_path / "runs")),
            "status": "ran",
        }
        for name, artifact in asked.items()
    }
    record = {"name": "example", "recipe": str(tmp_path / "r.yaml"), "seed": 1, "stages": stages}
    write_sealed(folder / "run.json", record)
    target = write(run_of_folder(folder), tmp_path / "report.html")
    return target.read_text(encoding="utf-8")


def test_the_report_shows_law_predictions_and_skills(page: str) -> None:
    section = page[page.index('<section id="scaling">') :].partition("</section>")[0]
    assert "The largest run, 4.0 times the compute of any that was fitted" in section
    assert '<td class="n">0.34</td><td class="n">0.3478</td>' in section  # published alphas
    assert section.count("<svg") >= 2
    assert "sums, zero-shot" in section
    assert "left out of the fit" in section
    assert 'style="' not in section
