"""The chat template that a stage asks for, put on a tokenizer, and the tokens that it needs.

A base model without a template is given one where conversations are to be learnt: its control
tokens are added to the vocabulary, and their embeddings are trained. How a recipe may
name a template is decided in model_files/chat_templates.py.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from transformers import AutoConfig, AutoModelForCausalLM, AutoTokenizer

from pipeline.config.references import HubModel
from pipeline.config.stage_config import WithTemplate
from pipeline.data.encoding.template import TEMPLATE_ERRORS
from pipeline.data.encoding.tokens import Stretch, TextEncoder
from pipeline.errors import PosttrainError, closest
from pipeline.model_files.chat_templates import (
    DEFAULT,
    control_tokens,
    set_variables,
    template_text,
    template_variables,
)
from pipeline.models.foreign import Loading
from pipeline.models.load import base_of, load_tokenizer
from pipeline.models.training import load_for_training

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from transformers import PreTrainedModel, PreTrainedTokenizerBase

    from pipeline.config.references import Places
    from pipeline.config.stage import StageContext, StageInput
    from pipeline.config.training_stage import TrainingOnRows, TrainingStage

_TOOL = {"type": "function", "function": {"name": "f", "description": "d", "parameters": {}}}
_CALL = {"id": "c12345678", "type": "function", "function": {"name": "f", "arguments": {}}}
_QUESTION: dict[str, Any] = {"role": "user", "content": "x"}
_ANSWER: dict[str, Any] = {"role": "assistant", "content": "x"}
_CALLS: dict[str, Any] = {"role": "assistant", "content": "", "tool_calls": [_CALL]}
_RESULT = {"role": "tool", "name": "f", "tool_call_id": "c12345678", "content": "x"}
# Between them these have a template write the tokens that it parts turns with.
_TALKS: tuple[tuple[list[dict[str, Any]], list[Any] | None], ...] = (
    ([_QUESTION, _ANSWER], None),
    ([{"role": "system", "content": "x"}, _QUESTION, _ANSWER], None),
    ([_QUESTION, _CALLS, _RESULT, _ANSWER], [_TOOL]),
)


@dataclass(frozen=True)
class TemplateChange:
    """What was done to a tokenizer.

    name: of the template, if another one than its own. new_tokens: added to its vocabulary.
    """

    name: str | None = None
    new_tokens: tuple[str, ...] = ()

    def metrics(self) -> dict[str, Any]:
        """Return it as a stage's metrics."""
        metrics: dict[str, Any] = {} if self.name is None else {"chat_template": self.name}
        return metrics | ({"new_tokens": list(self.new_tokens)} if self.new_tokens else {})


@dataclass(frozen=True)
class TemplatedModel:
    """What a stage begins with: a tokenizer with its template, and a model that has its tokens.

    config: the stage's; with `lora`, the adapter trains the embeddings too where there are tokens
    new to the model.
    """

    config: TrainingStage
    tokenizer: PreTrainedTokenizerBase
    module: PreTrainedModel
    template: TemplateChange

    def with_new_tokens(self, module: PreTrainedModel) -> PreTrainedModel:
        """Give another model of the same vocabulary the same new tokens."""
        add_embedding_rows(module, self.tokenizer, self.template.new_tokens)
        return module


def load_with_template(
    source: StageInput,
    config: TrainingOnRows,
    needs_template: Callable[[], bool],
    places: Places,
    commits: Mapping[str, str],
) -> TemplatedModel:
    """Load what a stage trains, with the chat template that it asks for or needs for its rows.

    needs_template: whether the rows need one; asked where that decides anything.
    """
    tokenizer = load_tokenizer(source)
    is_chat = decides_by_rows(tokenizer, config) and needs_template()
    template = give_template(tokenizer, config, places, commits, is_chat=is_chat)
    trained: TrainingStage = config
    if template.new_tokens and config.lora is not None:
        trained = _with_trained_embeddings(config, source)
    module = load_for_training(source, trained)
    add_embedding_rows(module, tokenizer, template.new_tokens)
    return TemplatedModel(trained, tokenizer, module, template)


def decides_by_rows(tokenizer: PreTrainedTokenizerBase, config: WithTemplate) -> bool:
    """Whether a tokenizer is given a template only where rows are conversations."""
    return config.chat_template is None and not tokenizer.chat_template


def give_template(
    tokenizer: PreTrainedTokenizerBase,
    config: WithTemplate,
    places: Places,
    commits: Mapping[str, str],
    *,
    is_chat: bool,
) -> TemplateChange:
    """Put the template that a stage asks for on a tokenizer, in place.

    commits: of hub ids. is_chat: whether there are conversations, for which a tokenizer without a
    template is given the default one. Raises PosttrainError for variables that the template does
    not read.
    """
    name = config.chat_template
    if is_chat and decides_by_rows(tokenizer, config):
        name = DEFAULT
    if name is not None:
        tokenizer.chat_template = _template_text(name, places, commits)
    if config.chat_template_kwargs:
        text = tokenizer.chat_template
        if not isinstance(text, str):
            message = "is for a chat template, and the model has none"
            hint = "name one with `chat_template:`"
            raise PosttrainError("chat_template_kwargs", message, hint)
        known = template_variables(text)
        for key in config.chat_template_kwargs:
            if key not in known:
                message = f"the chat template reads no `{key}`"
                hint = closest(key, known) or f"it reads {', '.join(sorted(known))}"
                raise PosttrainError("chat_template_kwargs", message, hint)
        tokenizer.chat_template = set_variables(text, config.chat_template_kwargs)
    return TemplateChange(name, _add_tokens(tokenizer) if name is not None else ())


def give_known_template(
    tokenizer: PreTrainedTokenizerBase, config: object, context: StageContext
) -> TemplateChange:
    """Put the template that a stage asks for on a tokenizer, where no tokens can be added.

    Raises PosttrainError for a template whose control tokens the model lacks.
    """
    if not isinstance(config, WithTemplate):
        return TemplateChange()
    template = give_template(tokenizer, config, context.places, context.revisions, is_chat=False)
    if template.new_tokens:
        message = f"the model has no token `{template.new_tokens[0]}` of the chat template"
        hint = "`stage: sft` with this template adds and trains it"
        raise PosttrainError(context.name, message, hint)
    return template


def _with_trained_embeddings(config: TrainingOnRows, source: StageInput) -> TrainingOnRows:
    """Return a stage whose adapter trains and saves the embeddings whole."""
    assert config.lora is not None
    whole = base_of(source) or source
    with torch.device("meta"):
        model_config = AutoConfig.from_pretrained(
            whole.path, revision=whole.revision, trust_remote_code=False
        )
        shape: Any = AutoModelForCausalLM.from_config(model_config)
    ends = (shape.get_input_embeddings(), shape.get_output_embeddings())
    is_tied = ends[0] is not None and ends[1] is not None and bool(model_config.tie_word_embeddings)
    names = [
        name.rpartition(".")[2]
        for name, part in shape.named_modules()
        if any(part is end for end in ends[: 1 if is_tied else 2])
    ]
    extra = dict(config.lora.model_extra or {})
    extra["modules_to_save"] = sorted({*(extra.get("modules_to_save") or ()), *names})
    if is_tied:
        extra["ensure_weight_tying"] = True
    lora = type(config.lora).model_validate({**dict(config.lora), **extra})
    return config.model_copy(update={"lora": lora})


def _template_text(name: str, places: Places, commits: Mapping[str, str]) -> str:
    try:
        template = template_text(name, places)
    except ValueError as error:
        message, _, hint = str(error).partition("; ")
        raise PosttrainError("chat_template", message, hint) from error
    if not isinstance(template, HubModel):
        return template
    revision = template.revision or commits.get(template.id)
    with Loading(template.id, "a tokenizer", is_local=False):
        tokenizer = AutoTokenizer.from_pretrained(
            template.id, revision=revision, trust_remote_code=False
        )
    if not isinstance(tokenizer.chat_template, str):
        raise PosttrainError("chat_template", f"`{name}` has no chat template", "name another")
    return tokenizer.chat_template


def _add_tokens(tokenizer: PreTrainedTokenizerBase) -> tuple[str, ...]:
    """Add the control tokens that the template writes and the tokenizer lacks."""
    written: dict[str, None] = {}
    for messages, tools in _TALKS:
        try:
            text = tokenizer.apply_chat_template(
                messages, tools=tools, tokenize=False, add_generation_prompt=False
            )
        except TEMPLATE_ERRORS:  # what it refuses it does not write
            continue
        written |= dict.fromkeys(control_tokens(str(text)))
    there: Any = tokenizer.added_tokens_encoder
    new = [token for token in written if token not in there]
    tokenizer.add_tokens(new, special_tokens=True)  # pyright: ignore[reportArgumentType]
    return tuple(new)


@torch.no_grad()
def add_embedding_rows(
    module: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, new_tokens: Sequence[str]
) -> None:
    """Give new tokens embeddings, each the mean of those of the tokens that spell it.

    Upstream draws them at random; so they begin among the words, each in a place of its own.
    """
    if not new_tokens:
        return
    encoder = TextEncoder(tokenizer)
    spelled = encoder.encode([Stretch(token, "nothing", token) for token in new_tokens])
    ends = [module.get_input_embeddings(), module.get_output_embeddings()]
    if len(tokenizer) > ends[0].weight.shape[0]:  # embeddings may have rows to spare
        module.resize_token_embeddings(len(tokenizer), mean_resizing=False)
        ends = [module.get_input_embeddings(), module.get_output_embeddings()]
    for weight in {id(end.weight): end.weight for end in ends if end is not None}.values():
        for token, ids in zip(new_tokens, spelled, strict=True):
            weight[tokenizer.convert_tokens_to_ids(token)] = weight[ids].mean(dim=0)
