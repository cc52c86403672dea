"""A stage of the user's own, in a file beside the recipe: the mean of several models' weights."""

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from pipeline import load_recipe
from pipeline.errors import PosttrainError
from pipeline.plan.plan import make
from pipeline.store.store import Store
from tests.conftest import TINY
from tests.forked import run_forked, warm

SOUP = '''
"""The mean of several models' weights (Wortsman et al. 2022)."""

from typing import Annotated

from pydantic import Field

from means import mean_of
from pipeline.config.field_types import ModelRef
from pipeline.config.stage import Stage, StageContext, StageResult
from pipeline.config.stage_config import StageConfig


class SoupConfig(StageConfig):
    """models: whose weights are averaged, each as often as it is named."""

    models: Annotated[list[ModelRef], Field(min_length=2)]


def run(config: SoupConfig, context: StageContext) -> StageResult:
    from pipeline.models.load import load_policy, load_tokenizer
    from pipeline.models.save import save_policy

    sources = [context.model(name) for name in config.models]
    policies = [load_policy(source) for source in sources]
    policies[0].load_state_dict(mean_of([each.state_dict() for each in policies]))
    metrics = save_policy(policies[0], load_tokenizer(sources[0]), context.out)
    return StageResult({**metrics, "models": len(sources)}, {"form": "document"})


STAGE = Stage(config=SoupConfig, run=run, produces="policy", version=1, is_seeded=False)
'''
MEANS = """
def mean_of(states):
    return {key: sum(state[key] for state in states) / len(states) for key in states[0]}
"""
OWN = """\
  soup:
    stage: soup:STAGE
    models: [$base, $sft]
  measured: {stage: evaluate, model: $soup, tasks: arithmetic, limit: 4, styles: zero-shot}
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("own")
    (folder / "soup.py").write_text(SOUP)
    (folder / "means.py").write_text(MEANS)
    (folder / "tiny.yaml").write_text(TINY + OWN)
    return folder


def test_a_stage_of_ones_own_runs_between_ours(folder: Path) -> None:
    warm()
    ended = run_forked(folder / "tiny.yaml", folder / "runs")
    assert ended.code == 0, ended.output
    weights = {
        name: load_file(folder / "runs/tiny" / name / "model.safetensors")
        for name in ("base", "sft", "soup")
    }
    for key, mean in weights["soup"].items():
        assert torch.allclose(mean, (weights["base"][key] + weights["sft"][key]) / 2)
    record = json.loads((folder / "runs/tiny/soup/artifact.json").read_text())
    assert record["metrics"]["models"] == 2
    assert (folder / "runs/tiny/measured/items.jsonl").is_file()
    assert (folder / "runs/tiny/soup").resolve().name.startswith("soup_stage-")
    again = run_forked(folder / "tiny.yaml", folder / "runs")
    assert again.code == 0, again.output
    assert again.output.count("cached") == 5


@pytest.mark.parametrize("file", ["soup.py", "means.py"])
def test_its_source_is_part_of_what_is_computed(folder: Path, tmp_path: Path, file: str) -> None:
    def fingerprint() -> str:
        plan = make(load_recipe(folder / "tiny.yaml"), Store(tmp_path / "runs"))
        return plan.stage("soup").fingerprint

    before, source = fingerprint(), (folder / file).read_text()
    assert fingerprint() == before
    (folder / file).write_text(f"{source}# other\n")
    after = fingerprint()
    (folder / file).write_text(source)
    assert after != before


@pytest.mark.parametrize(
    ("named", "said"),
    [
        ("soup:STAGES", "the module has no `STAGES`; did you mean `STAGE`?"),
        ("soop:STAGE", "no file soop.py beside the recipe"),
        ("soup:SoupConfig", "is of type ModelMetaclass, not a Stage"),
        ("broken:STAGE", "broken.py:1: ZeroDivisionError"),
    ],
)
def test_what_is_wrong_with_it_is_said_at_its_place(folder: Path, named: str, said: str) -> None:
    (folder / "broken.py").write_text("1 / 0\n")
    recipe = folder / "wrong.yaml"
    recipe.write_text((TINY + OWN).replace("soup:STAGE", named))
    with pytest.raises(PosttrainError) as caught:
        load_recipe(recipe)
    assert said in str(caught.value)
    assert "wrong.yaml:21:12" in str(caught.value)


def test_its_keys_are_checked_as_ours_are(folder: Path) -> None:
    recipe = folder / "wrong.yaml"
    recipe.write_text((TINY + OWN).replace("models: [$base, $sft]", "model: [$base, $sft]"))
    with pytest.raises(PosttrainError, match="unknown key `model`; did you mean `models`"):
        load_recipe(recipe)
