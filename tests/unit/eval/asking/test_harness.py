"""Tasks of lm-evaluation-harness through us give the harness's own numbers."""

import math
import sys
from collections import defaultdict
from dataclasses import replace
from importlib.metadata import version
from pathlib import Path
from typing import Any

import pytest

from eval.asking.harness import Harness, HarnessError
from eval.model import LanguageModel, StopRequested
from eval.statistics.intervals import mean
from pipeline.config.stage import StageInput
from pipeline.models.language import language_model, wrap
from pipeline.models.load import load_tokenizer
from tests.harness_tasks import harness_tasks

TEMPLATE = "{% for m in messages %}<{{ m.role }}>{{ m.content }}\n{% endfor %}<assistant>"


@pytest.fixture(scope="module")
def include(tmp_path_factory: pytest.TempPathFactory, real_data: Path) -> Path:
    return harness_tasks(tmp_path_factory.mktemp("harness"), real_data / "gsm8k")


@pytest.fixture(scope="module")
def stories(real_data: Path) -> LanguageModel:
    source = StageInput("stories", "policy", str(real_data / "stories260K"))
    return language_model(source, form=None, precision="fp32")


def of_the_harness(
    folder: Path, include: Path, name: str, monkeypatch: pytest.MonkeyPatch, **options: Any
) -> Any:
    """What `lm_eval --model hf --model_args pretrained=DIR` reports."""
    from lm_eval import evaluator
    from lm_eval.tasks import TaskManager

    # It lists packages and asks the machine about itself, for ten seconds.
    monkeypatch.setattr(evaluator, "add_env_info", lambda _: None)
    return evaluator.simple_evaluate(
        model="hf",
        model_args={"pretrained": str(folder), "dtype": "float32"},
        tasks=[name],
        batch_size=4,
        device="cpu",
        bootstrap_iters=0,
        task_manager=TaskManager(include_path=str(include), include_defaults=False),
        **options,
    )


@pytest.mark.parametrize(
    ("name", "shots", "limit", "metrics"),
    [
        ("currencies", None, 12, ["acc", "acc_norm"]),
        ("currencies", 2, 12, ["acc", "acc_norm"]),
        ("local_gsm8k", None, 4, ["exact_match,strict-match", "exact_match,flexible-extract"]),
        ("lines", None, 4, ["bits_per_byte"]),
    ],
)
def test_a_number_is_the_one_that_the_harness_reports(
    real_data: Path,
    include: Path,
    stories: LanguageModel,
    name: str,
    shots: int | None,
    limit: int,
    metrics: list[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    folder = real_data / "stories260K"
    theirs = of_the_harness(folder, include, name, monkeypatch, limit=limit, num_fewshot=shots)
    asked = f"{name}(num_fewshot={shots})" if shots else name
    ours = Harness([asked], include).ask(stories, limit=limit, batch_size=4)
    by_metric: dict[str, list[Any]] = defaultdict(list)
    for result in ours.results:
        by_metric[result.metric].append(result)
    assert list(by_metric) == metrics
    for metric, results in by_metric.items():
        assert len(results) == limit
        value = theirs["results"][name][metric if "," in metric else f"{metric},none"]
        found = mean([r.score for r in results], [r.weight for r in results])
        assert math.isclose(found, value, rel_tol=1e-6, abs_tol=0.0) or found == value == 0.0
        said = [sample["resps"][0][0] for sample in theirs["samples"][name]][:limit]
        if name == "local_gsm8k":
            assert [r.response for r in results] == said
            assert any(said)
        if name == "currencies":
            assert 0 < found < 1
            assert {r.shots for r in results} == {shots or 0}
    assert ours.versions[name] == str(theirs["versions"][name])
    assert ours.versions["lm_eval"] == version("lm_eval")


def test_the_items_of_a_group_are_of_one_task_and_of_its_groups(
    include: Path, stories: LanguageModel
) -> None:
    ours = Harness(["both"], include).ask(stories, limit=3, batch_size=4)
    accuracy = [result for result in ours.results if result.metric == "acc"]
    assert {result.task for result in ours.results} == {"both"}
    assert [result.group for result in accuracy] == ["capitals"] * 3 + ["currencies"] * 3
    assert len({result.item for result in accuracy}) == 6
    assert ours.versions["both"] == "2"


def test_a_figure_that_is_no_mean_over_items_is_said_and_not_averaged(
    include: Path, stories: LanguageModel
) -> None:
    ours = Harness(["lines"], include).ask(stories, limit=3, batch_size=4)
    assert {result.metric for result in ours.results} == {"bits_per_byte"}
    assert all(result.lower_is_better for result in ours.results)
    assert ours.notes[1].startswith("`lines word_perplexity` is ")
    assert len(ours.notes) == 2


def test_a_chat_model_is_asked_through_its_template(include: Path, real_data: Path) -> None:
    source = StageInput("stories", "policy", str(real_data / "stories260K"))
    tokenizer = load_tokenizer(source)
    tokenizer.chat_template = TEMPLATE
    base = language_model(source, form="document", precision="fp32")
    chat = replace(wrap(base.module, tokenizer, name="chat", form="document"), form="chat")
    ours = Harness(["currencies(num_fewshot=1)"], include).ask(chat, limit=2, batch_size=4)
    for result in ours.results:
        assert result.form == "chat"
        assert result.prompt.count("<user>") == 2
        assert result.prompt.endswith("<assistant>")


def test_a_stop_is_heeded_and_progress_told(include: Path, stories: LanguageModel) -> None:
    told: list[tuple[str, int, int]] = []
    harness = Harness(["currencies"], include)
    harness.ask(stories, limit=3, batch_size=4, on_progress=lambda *each: told.append(each))
    assert told[0] == ("currencies, lm-evaluation-harness", 0, 12)
    assert [done for _, done, _ in told] == sorted({done for _, done, _ in told})
    with pytest.raises(StopRequested):
        harness.ask(stories, limit=3, batch_size=4, should_stop=lambda: True)


@pytest.mark.parametrize("name", ["currencies(limit=3)", "currencies(num_fewshot=many)"])
def test_only_the_number_of_demonstrations_can_be_set(include: Path, name: str) -> None:
    with pytest.raises(HarnessError, match="`num_fewshot=N` and nothing else"):
        Harness([name], include)


def test_a_task_that_would_run_code_unconfined_is_refused(tmp_path: Path) -> None:
    tasks = harness_tasks(tmp_path)
    choices = (tasks / "capitals.yaml").read_text()
    (tasks / "code.yaml").write_text(f"{choices}unsafe_code: true\n".replace("capitals", "code"))
    with pytest.raises(HarnessError, match="`code` of the harness runs what a model writes"):
        Harness(["code"], tasks)


def test_without_the_harness_the_error_says_how_to_install_it(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setitem(sys.modules, "lm_eval", None)
    monkeypatch.delitem(sys.modules, "lm_eval.tasks", raising=False)
    with pytest.raises(HarnessError, match=r"pip install 'posttrain\[harness\]'"):
        Harness(["arc_easy"], tmp_path)
