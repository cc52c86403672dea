"""Small random models of the architectures written as GGUF, with tokenizers of each kind."""

from pathlib import Path
from string import ascii_lowercase
from typing import Any

import torch
from tokenizers import AddedToken, Tokenizer, decoders, models, normalizers, pre_tokenizers
from tokenizers.pre_tokenizers import ByteLevel
from tokenizers.trainers import BpeTrainer
from transformers import AutoConfig, AutoModelForCausalLM, PreTrainedTokenizerFast

from pipeline.llamacpp.pretokenizers import PreTokenizer

TEMPLATE = (
    "{% for message in messages %}{{ '<|' + message['role'] + '|>' + message['content'] "
    "+ '<|end|>' }}{% endfor %}{% if add_generation_prompt %}{{ '<|assistant|>' }}{% endif %}"
)
SPECIAL = ("<s>", "</s>", "<|user|>", "<|assistant|>", "<|end|>")
TEXTS = (
    "It's 1234 o'clock,  isn't it?\n\n  We'll see 12.5% of it; THEY'VE said so.",
    "def f(x):\n\treturn x ** 2 + 10 - y[3]  # naïve café\r\n",
    "\u4f60\u597d\uff0c\u4e16\u754c 123 \u548c \uff14\uff15 😀 \u043f\u0440\u0438\u0432 Ⅻ",
    "   leading and trailing   ",
)
_SIZES = {
    **{"hidden_size": 64, "intermediate_size": 96, "num_hidden_layers": 2},
    **{"num_attention_heads": 4, "num_key_value_heads": 2, "head_dim": 16},
    "max_position_embeddings": 256,
}


def byte_level(known: PreTokenizer) -> PreTrainedTokenizerFast:
    """Return a tokenizer that cuts texts in a way that llama.cpp has a name for."""
    tokenizer = Tokenizer(models.BPE(ignore_merges=known.ignores_merges))
    steps = [_step(step) for step in known.steps]
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(steps)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = BpeTrainer(
        vocab_size=400, special_tokens=list(SPECIAL), initial_alphabet=ByteLevel.alphabet(),
        show_progress=False,
    )  # fmt: skip
    tokenizer.train_from_iterator(TEXTS * 3, trainer)
    return _wrapped(tokenizer)


def sentence_pieces(*, prepend: bool = True) -> PreTrainedTokenizerFast:
    """Return a tokenizer as those of Llama 2: pieces with a space before, bytes for the rest."""
    space = "\u2581"
    pieces = ["th", f"{space}t", "he", f"{space}the", "the", "12", f"{space}1", "in", "ing", "is"]
    seen = {*"".join(TEXTS[:2]), *ascii_lowercase} - {" ", "\n"}
    letters = [space, *sorted(seen)]
    tokens = ["<unk>", *SPECIAL, *(f"<0x{byte:02X}>" for byte in range(256)), *pieces, *letters]
    vocab = {token: number for number, token in enumerate(tokens)}
    merges = [
        (piece[:at], piece[at:])
        for piece in pieces
        for at in range(1, len(piece))
        if piece[:at] in vocab and piece[at:] in vocab
    ]
    tokenizer = Tokenizer(
        models.BPE(vocab=vocab, merges=merges, unk_token="<unk>", byte_fallback=True)
    )
    replace = normalizers.Replace(" ", space)
    tokenizer.normalizer = (
        normalizers.Sequence([normalizers.Prepend(space), replace]) if prepend else replace
    )
    tokenizer.decoder = decoders.Sequence(
        [decoders.Replace(space, " "), decoders.ByteFallback(), decoders.Fuse()]
    )
    tokenizer.add_special_tokens([AddedToken(name, special=True) for name in SPECIAL])
    return _wrapped(tokenizer)


def save(tokenizer: PreTrainedTokenizerFast, folder: Path, kind: str, **fields: Any) -> Path:
    """Save a random model of an architecture, whose greedy responses are no repetition."""
    torch.manual_seed(0)
    ids = {"bos_token_id": 0, "eos_token_id": 1, "pad_token_id": 1}
    given = {**_SIZES, "vocab_size": len(tokenizer) + 3, **ids, **fields}
    config = AutoConfig.for_model(kind, **given)
    module = AutoModelForCausalLM.from_config(config, dtype=torch.float32)
    with torch.no_grad():
        for name, parameter in module.named_parameters():
            if parameter.ndim > 1:
                parameter.mul_(1.0 if "embed" in name and kind == "gemma" else 6.0)
            elif "norm" not in name:
                parameter.normal_(0, 0.5)
            else:
                parameter.add_(torch.randn_like(parameter) * 0.2)
    module.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


def _step(step: dict[str, Any]) -> Any:
    kinds = {"Digits": pre_tokenizers.Digits, "ByteLevel": ByteLevel}
    if step["type"] == "Split":
        from tokenizers import Regex

        return pre_tokenizers.Split(Regex(step["pattern"]["Regex"]), "isolated")
    return kinds[step["type"]](**{key: value for key, value in step.items() if key != "type"})


def _wrapped(tokenizer: Tokenizer) -> PreTrainedTokenizerFast:
    fast = PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        bos_token="<s>",
        eos_token="</s>",
        pad_token="</s>",
        clean_up_tokenization_spaces=False,
    )
    fast.chat_template = TEMPLATE
    return fast
