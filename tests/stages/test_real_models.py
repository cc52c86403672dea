"""Real models and text through our own loading, sampling and stages; skipped without them."""

import json
from pathlib import Path

from eval.asking.sampler import generate
from pipeline.config.stage import StageInput
from pipeline.models.language import language_model
from tests.forked import run_forked, warm


def test_stories260k_writes_the_published_text(real_data: Path) -> None:
    """Greedy from BOS, as llama2.c writes it: 256 tokens, 565 of 565 characters."""
    folder = real_data / "stories260K"
    source = StageInput("stories260K", "policy", str(folder))
    model = language_model(source, form=None, precision="fp32")
    page = (folder / "stories260K.md").read_text()
    published = page.split("tok512.bin -t 0.0\n")[1].split("\n```")[0]
    prompt = model.encode_document("")
    assert prompt == [model.tokenizer.bos_token_id]
    story = generate(model, [prompt], max_new_tokens=256, batch_size=1, seed=0)[0]
    assert len(published) == 565
    assert story.text == published


def test_real_stories_goes_on_with_a_real_model_and_compares_bits_per_byte(
    real_data: Path, tmp_path: Path
) -> None:
    warm()
    recipe = Path(__file__).parents[2] / "recipes" / "real_stories.yaml"
    few = ["stages.more_stories.tokens=16k", "stages.compare.limit=12", f"roots.real={real_data}"]
    ended = run_forked(recipe, tmp_path / "runs", overrides=few, until="compare")
    assert ended.code == 0, ended.output
    comparison = json.loads((tmp_path / "runs/real_stories/compare/comparison.json").read_text())
    before, after = comparison["rows"]
    assert (before["model"], after["model"]) == ("stories", "more_stories")
    assert before["metric"] == "bits_per_byte"
    assert 0.5 < before["score"] < 2.0
    assert after["delta_low"] <= after["delta"] <= after["delta_high"]
