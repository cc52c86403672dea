"""Answers of a measured model by a vLLM server: a stand-in that is started on its weights."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from eval.asking.sampler import generate
from eval.model import LanguageModel
from pipeline.config.references import Places
from pipeline.config.rollout_engine import AnswersBlock
from pipeline.config.stage import StageInput
from pipeline.errors import InfrastructureError, PosttrainError
from pipeline.measuring.engine import answering
from pipeline.models.language import language_model
from tests.ppo_tasks import tiny_llama, tiny_tokenizer
from tests.vllm_server import fake_python

pytestmark = pytest.mark.enable_socket
PROMPTS = [[3, 4], [5, 6, 7], [8], [9, 10, 11, 12, 13, 14]]


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> LanguageModel:
    folder = tmp_path_factory.mktemp("model")
    tiny_llama(0, 32, initializer_range=0.2).save_pretrained(folder)
    tiny_tokenizer(32).save_pretrained(folder)
    return language_model(
        StageInput("it", "policy", str(folder)), form="document", precision="fp32"
    )


def stage_of(folder: Path, **answers: Any) -> tuple[Any, Any]:
    """Return config and context of a stage, as far as `answering` reads them."""
    out = folder / "out"
    out.mkdir()
    context = SimpleNamespace(out=out, places=Places(folder), progress=lambda *_: None)
    return SimpleNamespace(answers=AnswersBlock(**answers), precision="fp32"), context


def written(model: LanguageModel, **how: Any) -> list[Any]:
    usual = {"max_new_tokens": 12, "batch_size": 4, "seed": 0}
    return generate(model, PROMPTS, **{**usual, **how})


def test_greedy_answers_of_a_server_are_our_own(model: LanguageModel, tmp_path: Path) -> None:
    config, context = stage_of(tmp_path, engine="vllm", python=str(fake_python(tmp_path)))
    own = written(model)
    stop = sorted({text for one in own for text in one.text.split()})[:3]
    seen: list[int] = []
    with answering(config, context, model) as served:
        assert written(served, on_progress=seen.append) == own
        assert seen == [1, 2, 3, 4]
        stopped = written(served, stop=stop)
        assert stopped == written(model, stop=stop)
        assert {one.ended for one in stopped} >= {"stop"}
        sampled = written(served, temperature=1.0)
        assert sampled == written(served, temperature=1.0)
        assert sampled != written(served, temperature=1.0, keys=[4, 5, 6, 7])
        with pytest.raises(PosttrainError, match="takes 64 tokens a row, and one may have 106"):
            served.writer([[3] * 6], keys=[0], seed=0, max_new_tokens=100, temperature=0.0,
                          stop=(), on_progress=seen.append)  # fmt: skip
    assert not (tmp_path / "vllm").exists()


def test_our_own_loop_answers_where_nothing_is_said(model: LanguageModel, tmp_path: Path) -> None:
    config, context = stage_of(tmp_path)
    with answering(config, context, model) as same:
        assert same is model


def test_a_server_that_dies_while_it_answers_is_the_machines_fault(
    model: LanguageModel, tmp_path: Path
) -> None:
    dying = str(fake_python(tmp_path, dies_after=3))
    config, context = stage_of(tmp_path, engine="vllm", python=dying)
    with (
        pytest.raises(InfrastructureError, match="ended by signal 9"),
        answering(config, context, model) as served,
    ):
        written(served)
    assert (tmp_path / "vllm" / "server.log").exists()


def test_an_answer_that_ends_early_without_an_end_is_asked_for_again(model: LanguageModel) -> None:
    """vLLM decodes responses alone, and may find a stop string that is none here."""
    from dataclasses import replace

    asked: list[tuple[str, ...]] = []

    def writer(prompts: Any, *, stop: Any, max_new_tokens: int, **_: Any) -> list[list[int]]:
        asked.append(tuple(stop))
        return [[5] * (2 if stop else max_new_tokens) for _ in prompts]

    found = written(replace(model, writer=writer), stop=["never"])
    assert asked == [("never",), ()]
    assert all(len(one.token_ids) == 12 for one in found)
