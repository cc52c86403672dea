"""What names in a recipe stand for: files, models, stages."""

from pathlib import Path
from typing import Annotated

import pytest
from pydantic import Field

from pipeline.config.blocks import Block, LaunchBlock
from pipeline.config.field_types import ModelRef, TokenizerRef
from pipeline.config.marks import RefersTo
from pipeline.config.references import (
    HubModel,
    LocalModel,
    Places,
    Reference,
    StageOutput,
    model_source,
    stage_references,
)


@pytest.fixture
def places(tmp_path):
    return Places(tmp_path, {"real": Path("/data/real"), "near": Path("near")})


def message_of(call, *arguments) -> str:
    with pytest.raises(ValueError, match=r".") as caught:
        call(*arguments)
    assert str(caught.value).isprintable()
    return str(caught.value)


def test_paths_lead_to_roots_the_home_folder_or_beside_the_recipe(places, tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", "/home/somebody")
    for text, path in {
        "a/b.txt": tmp_path / "a/b.txt",
        "./real:x.txt": tmp_path / "real:x.txt",
        "/etc/x": Path("/etc/x"),
        "~/x": Path("/home/somebody/x"),
        "real:a/b.txt": Path("/data/real/a/b.txt"),
        "near:b.txt": tmp_path / "near/b.txt",
        "C:": tmp_path / "C:",
        "C:\\x": tmp_path / "C:\\x",
    }.items():
        assert places.file(text) == path


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("reel:x.txt", "did you mean `real`?"),
        ("elsewhere:x.txt", "known: near, real"),
        ("real:/etc/passwd", "begins at another place"),
        ("https://example.org/x.txt", "web address"),
        ("https://huggingface.co/owner/name", "write `owner/name`"),
        ("a\0b", "not a path"),
        ("", "not a path"),
        ("x" * 300, "too long"),
        ("~no-such-user-here/x", "no such home folder"),
    ],
)
def test_a_path_that_leads_nowhere_says_what_to_write(places, text, message):
    assert message in message_of(places.file, text)


class Inner(Block):
    reference: ModelRef | None = None
    text: str = ""


class Stage(Block):
    plain: str = ""
    model: ModelRef | Inner = ""
    tokenizer: TokenizerRef | None = None
    candidates: tuple[ModelRef, ...] = ()
    by_name: dict[str, ModelRef | Inner] = Field(default_factory=dict)
    blocks: tuple[Inner, ...] | None = None
    pair: tuple[str, Annotated[str, RefersTo(("reward_model",))]] = ("", "")
    whole: Annotated[tuple[str, ...], RefersTo(("dataset",))] = ()
    launch: LaunchBlock = LaunchBlock()


class Renamed(Block):
    inner: Inner = Field(alias="with")


def test_references_are_found_wherever_a_type_allows_them():
    config = Stage(
        plain="$not_one",
        model=Inner(reference="$base", text="$not_one"),
        tokenizer="$words",
        candidates=("$a", "owner/name", "$b"),
        by_name={"x": "$c", "y": Inner(reference="$d")},
        blocks=(Inner(), Inner(reference="$e")),
        pair=("$not_one", "$f"),
        whole=("$g",),
    )
    policy = ("policy",)
    assert stage_references(config) == [
        Reference(("model", "reference"), "base", policy),
        Reference(("tokenizer",), "words", ("tokenizer", "policy")),
        Reference(("candidates", 0), "a", policy),
        Reference(("candidates", 2), "b", policy),
        Reference(("by_name", "x"), "c", policy),
        Reference(("by_name", "y", "reference"), "d", policy),
        Reference(("blocks", 1, "reference"), "e", policy),
        Reference(("pair", 1), "f", ("reward_model",)),
        Reference(("whole", 0), "g", ("dataset",)),
    ]


def test_a_location_has_the_name_that_the_recipe_uses():
    found = stage_references(Renamed.model_validate({"with": {"reference": "$x"}}))
    assert [reference.location for reference in found] == [("with", "reference")]


def test_a_model_is_a_stage_a_folder_or_a_hub_repository(places, tmp_path):
    for folder, file in {
        "near/model": "config.json",
        "adapter": "adapter_config.json",
        "owner/name": "config.json",
        "words": "tokenizer.json",
    }.items():
        (tmp_path / folder).mkdir(parents=True)
        (tmp_path / folder / file).write_text("{}")
    for text, source in {
        "$sft": StageOutput("sft"),
        "$owner/name": StageOutput("owner/name"),
        "near:model": LocalModel(tmp_path / "near/model"),
        "./adapter": LocalModel(tmp_path / "adapter"),
        "adapter": LocalModel(tmp_path / "adapter"),
        str(tmp_path / "adapter"): LocalModel(tmp_path / "adapter"),
        "owner/name": LocalModel(tmp_path / "owner/name"),
        "words": LocalModel(tmp_path / "words"),
        "Qwen/Qwen3-0.6B": HubModel("Qwen/Qwen3-0.6B", None),
        "owner/name@refs/pr/7": HubModel("owner/name", "refs/pr/7"),
        "o/n@v1.0": HubModel("o/n", "v1.0"),
    }.items():
        assert model_source(text, places) == source
    assert "config.json" in message_of(lambda: model_source("words", places, kinds=("policy",)))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("$", "needs the name of a stage"),
        ("gpt2", "a stage as `$name`, a folder as `./name`, a hub model as `owner/name`"),
        ("./none", "there is no folder `./none`"),
        ("../none/x", "there is no folder"),
        ("real:none", "there is no folder `real:none`; looked for /data/real/none"),
        ("unreal:none", "there is no root"),
        ("empty", "holds no model: it has no config.json or adapter_config.json"),
        ("./file", "is a file"),
        ("a/b/c", "neither a folder nor a hub id"),
        ("owner/name@", "neither"),
        ("-owner/name", "neither"),
        ("owner/na--me", "neither"),
        ("owner/n me", "neither"),
        ("https://huggingface.co/owner/name", "write `owner/name`"),
        ("x" * 3000, "too long"),
    ],
)
def test_a_model_that_is_nothing_says_what_to_write(places, tmp_path, text, message):
    (tmp_path / "empty").mkdir()
    (tmp_path / "file").write_text("")
    assert message in message_of(model_source, text, places)
