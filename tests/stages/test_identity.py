"""What makes a stage run again, and what does not."""

from pathlib import Path

import pytest

from pipeline import load_recipe
from pipeline.commands.why import why
from pipeline.plan.plan import Plan, make
from pipeline.store.store import Store
from tests.conftest import TINY
from tests.forked import run_forked, warm


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with tiny.yaml and its finished runs."""
    warm()
    folder = tmp_path_factory.mktemp("finished")
    (folder / "tiny.yaml").write_text(TINY)
    ended = run_forked(folder / "tiny.yaml", folder / "runs")
    assert ended.code == 0, ended.output
    return folder


def _plan(folder: Path, text: str = TINY, *overrides: str) -> Plan:
    path = folder / "tiny.yaml"
    path.write_text(text)
    return make(load_recipe(path, overrides=overrides), Store(folder / "runs"))


def _to_run(plan: Plan) -> list[str]:
    return [planned.name for planned in plan.stages if planned.status != "cached"]


def test_nothing_changed_nothing_runs(finished: Path) -> None:
    assert _to_run(_plan(finished)) == []


def test_a_learning_rate_reruns_its_stage_and_what_follows_and_why_names_it(finished: Path) -> None:
    plan = _plan(finished, TINY, "stages.sft.training_args.learning_rate=2e-3")
    assert _to_run(plan) == ["sft"]
    store = Store(finished / "runs")
    assert why(plan, store, "sft") == ["sft: training_args.learning_rate: 0.001 -> 0.002"]

    plan = _plan(finished, TINY, "stages.base.training_args.learning_rate=1e-3")
    assert _to_run(plan) == ["base", "sft"]
    assert why(plan, store, "sft") == [
        "sft: is built on base, which changed",
        "base: training_args.learning_rate: 0.003 -> 0.001",
    ]


def test_formatting_names_and_comments_change_nothing(finished: Path) -> None:
    reformatted = TINY.replace(
        "{stage: tokenizer, data: [{task: arithmetic}], vocab_size: 300}",
        "\n    # a comment\n    vocab_size: 300\n    stage: 'tokenizer'\n"
        "    data:\n      - task: arithmetic",
    )
    assert _to_run(_plan(finished, reformatted)) == []
    renamed = TINY.replace("base:", "ground:").replace("$base", "$ground")
    assert _to_run(_plan(finished, renamed)) == []


def test_a_stream_has_the_rows_of_its_data_set(tmp_path: Path) -> None:
    found: list[str] = []
    for source in ("", ", streaming: true", ", rows: 9"):
        text = TINY.replace(
            "data: [{task: arithmetic, rows",
            f"data: [{{hub: a/b, revision: {'a' * 40}{source}}}, {{task: arithmetic, rows",
        )
        assert text != TINY
        found.append(_plan(tmp_path, text).stage("sft").fingerprint)
    assert found[0] == found[1] != found[2]


@pytest.mark.parametrize(
    "override",
    [
        "stages.base.training_args.per_device_train_batch_size=2",
        "stages.base.training_args.logging_steps=7",
        "stages.base.training_args.save_steps=7",
        "stages.base.launch=python",
        "stages.base.training_args.report_to=none",
    ],
)
def test_execution_settings_change_nothing(finished: Path, override: str) -> None:
    assert _to_run(_plan(finished, TINY, override)) == []


@pytest.mark.parametrize(
    "override",
    [
        "stages.base.batch_size=16",
        "stages.base.seed=4",
        "stages.base.precision=bf16",
        "stages.base.training_args.weight_decay=0.2",
        "stages.base.model.num_hidden_layers=3",
        "stages.base.tokens=30k",
    ],
)
def test_identity_settings_rerun_the_stage(finished: Path, override: str) -> None:
    assert _to_run(_plan(finished, TINY, override)) == ["base", "sft"]


def test_the_seed_of_the_recipe_reruns_only_what_is_seeded(finished: Path) -> None:
    assert _to_run(_plan(finished, TINY, "seed=5")) == ["base", "sft"]


def test_data_is_known_by_its_bytes_not_by_its_path(finished: Path) -> None:
    text = TINY.replace("data: [{task: arithmetic, rows: 157}]", "data: {file: DIR/rows.jsonl}")
    row = '{"prompt": "2 + 2 =", "completion": " 4"}\n'
    fingerprints: dict[str, str] = {}
    for folder, content in (("one", row), ("two", row), ("three", row * 2)):
        (finished / folder).mkdir(exist_ok=True)
        (finished / folder / "rows.jsonl").write_text(content)
        plan = _plan(finished, text.replace("DIR", folder))
        fingerprints[folder] = plan.stage("sft").fingerprint
    assert fingerprints["one"] == fingerprints["two"] != fingerprints["three"]


def test_a_users_own_task_is_known_by_its_source(finished: Path) -> None:
    source = (
        "from eval.tasks.arithmetic import Arithmetic\nclass Mine(Arithmetic):\n    name = 'mine'\n"
    )
    text = TINY.replace("[{task: arithmetic, rows: 157}]", "[{task: 'my_tasks:Mine', rows: 160}]")
    (finished / "my_tasks.py").write_text(source)
    before = _plan(finished, text).stage("sft").fingerprint
    (finished / "my_tasks.py").write_text(source + "    version = 9\n")
    assert _plan(finished, text).stage("sft").fingerprint != before


def test_a_pin_turns_a_surprise_rebuild_into_an_error(finished: Path) -> None:
    from pipeline.errors import PosttrainError

    fingerprint = _plan(finished).stage("base").fingerprint
    pinned = TINY.replace("stage: pretrain", f"stage: pretrain\n    pin: '{fingerprint[:16]}'")
    assert _to_run(_plan(finished, pinned)) == []
    with pytest.raises(PosttrainError, match="not the pinned"):
        _plan(finished, pinned, "stages.base.tokens=30k")


def test_the_length_that_rows_may_have_is_recorded_as_it_is_used(finished: Path) -> None:
    """1024 by default, and never more than the model has positions."""
    plan = _plan(
        finished, TINY.replace("max_position_embeddings: 1024", "max_position_embeddings: 96")
    )
    (sft,) = [each for each in plan.stages if each.name == "sft"]
    assert sft.identity["training_args"]["max_length"] == 96
