"""What `chat_template:` names, and values for the variables of a template."""

from pathlib import Path
from typing import Any

import pytest
import trl
from jinja2.sandbox import ImmutableSandboxedEnvironment

from pipeline.config.references import HubModel, Places
from pipeline.model_files.chat_templates import (
    control_tokens,
    set_variables,
    template_names,
    template_text,
    template_variables,
)
from tests.small_folders import TEMPLATE, small_tokenizer

SHIPPED = Path(trl.__file__).parent / "chat_templates"


def rendered(text: str, **given: Any) -> str:
    environment = ImmutableSandboxedEnvironment(trim_blocks=True, lstrip_blocks=True)
    return environment.from_string(text).render(**given)


def test_every_template_that_trl_ships_has_its_name(tmp_path: Path) -> None:
    assert {*template_names()} == {"chatml", *(path.stem for path in SHIPPED.glob("*.jinja"))}
    found = template_text("qwen3", Places(tmp_path, {}))
    assert found == (SHIPPED / "qwen3.jinja").read_text()


def test_a_template_is_a_file_a_models_folder_or_a_model_on_the_hub(tmp_path: Path) -> None:
    places = Places(tmp_path, {})
    (tmp_path / "mine.jinja").write_text("{{ messages[0].content }}")
    assert template_text("mine.jinja", places) == "{{ messages[0].content }}"
    small_tokenizer().save_pretrained(tmp_path / "model")
    assert template_text("./model", places) == TEMPLATE
    assert template_text("owner/model@main", places) == HubModel("owner/model", "main")
    (tmp_path / "model/chat_template.jinja").unlink()
    with pytest.raises(ValueError, match=r"`\./model` has no chat template"):
        template_text("./model", places)
    with pytest.raises(ValueError, match=r"no chat template `chatlm`; did you mean `chatml`\?"):
        template_text("chatlm", places)


@pytest.mark.parametrize("value", [True, False, None, 3, 0.5, 'a "b"\n\\', [1, "x"], {"a": [True]}])
def test_a_value_is_there_unless_another_is_given(value: Any) -> None:
    text = set_variables("  {{ mood }}|{{ mood is defined }}", {"mood": value})
    assert rendered(text) == f"  {value}|True"
    assert rendered(text, mood="sad") == "  sad|True"


def test_variables_are_those_that_a_template_reads() -> None:
    text = "{% set a = b %}{% for m in messages %}{{ m.x }}{{ a }}{% endfor %}"
    assert template_variables(text) == {"b", "messages"}
    assert "enable_thinking" in template_variables((SHIPPED / "qwen3.jinja").read_text())


def test_control_tokens_are_told_by_their_spelling() -> None:
    text = "<|im_start|>a<|im_end|><start_of_turn><think>x</think><turn|>3 < 4 <b>|>"
    assert control_tokens(text) == ("<|im_start|>", "<|im_end|>", "<start_of_turn>", "<turn|>")
