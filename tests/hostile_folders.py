"""Model folders with one thing wrong, as a table: how each is made and what must be said of it.

Each begins as a copy of a small whole model. What is said names the file, on one line.
"""

from __future__ import annotations

import struct

import torch

from tests import broken_folders as broken
from tests.hostile_adapters import ADAPTERS, Hostile

BIG = 1_000_000_000
TOKENIZER = "tokenizer.json"
TEMPLATE = "chat_template.jinja"
_CONFIG = [
    Hostile("config is a number", broken.text("config.json", "5"), "config.json: holds a int", 4),
    Hostile("config is null", broken.text("config.json", "null"), "config.json: holds null", 4),
    Hostile("config is a list", broken.text("config.json", "[1]"), "config.json: holds a list", 4),
    Hostile("config is empty", broken.text("config.json", ""), "config.json: is empty", 4),
    Hostile("config is cut", broken.cut("config.json", 40), "config.json: is not JSON", 4),
    Hostile("config is not UTF-8", broken.raw("config.json", b'{"a": "\xff"}'), "is not UTF-8", 4),
    Hostile("config is a pointer", broken.text("config.json", broken.POINTER), "git lfs pull", 2),
    Hostile(
        "config is a page", broken.text("config.json", broken.PAGE), "config.json: is a web page", 4
    ),
    Hostile(
        "config is a folder", broken.folder_instead("config.json"), "config.json: is a folder", 2
    ),
    Hostile(
        "config is nested", broken.text("config.json", broken.deep(100_000)), "nested too deeply", 4
    ),
    Hostile("config leads nowhere", broken.linked("config.json", "gone.json"), "is not there", 2),
    Hostile("config is a device", broken.linked("config.json", "/dev/zero"), "no regular file", 2),
    Hostile("no config", broken.gone("config.json"), "has no config.json", 2),
    Hostile("config says nothing", broken.text("config.json", "{}"), "model_type", 4),
    Hostile(
        "unknown model type", broken.config(model_type="superllama"), "is transformers too old", 2
    ),
    Hostile("model type is a list", broken.config(model_type=["llama"]), "cannot be loaded", 4),
    Hostile("heads do not divide", broken.config(num_attention_heads=5), "attention heads (5)", 4),
    Hostile("no heads", broken.config(num_attention_heads=0), "cannot be loaded", 4),
    Hostile("width is a text", broken.config(hidden_size="wide"), "`hidden_size` is 'wide'", 2),
    Hostile("width is below zero", broken.config(hidden_size=-32), "`hidden_size` is '-32'", 2),
    Hostile(
        "too many layers", broken.config(num_hidden_layers=BIG), "`num_hidden_layers` is 1e+09", 2
    ),
    Hostile("more layers than tensors", broken.config(num_hidden_layers=9_000), "9000 layers", 2),
    Hostile("one layer more", broken.config(num_hidden_layers=3), "missing keys", 4),
    Hostile("too many labels", broken.config(num_labels=BIG), "`num_labels` is 1e+09", 2),
    Hostile("too many tokens", broken.config(vocab_size=BIG), "`vocab_size` is 1e+09", 2),
    Hostile("too many heads", broken.config(num_attention_heads=BIG), "1e+09", 2),
    Hostile("too wide", broken.config(hidden_size=BIG), "1e+09", 2),
    Hostile(
        "wider than the weights",
        broken.config(hidden_size=4_000_000),
        "`hidden_size` is 4000000",
        2,
    ),
    Hostile(
        "wider inside than the weights",
        broken.config(intermediate_size=90_000_000),
        "is 90000000",
        2,
    ),
    Hostile("too many positions", broken.config(max_position_embeddings=10**30), "1e+30", 2),
    Hostile("half the width", broken.config(hidden_size=16, head_dim=8), "shapes", 4),
    Hostile("rope of no kind", broken.config(rope_parameters={"rope_type": "magic"}), "magic", 4),
    Hostile("activation of no kind", broken.config(hidden_act="magic"), "magic", 4),
    Hostile("own code", broken.config(auto_map={"AutoModelForCausalLM": "x.X"}), "auto_map", 2),
    Hostile(
        "gptq", broken.config(quantization_config={"quant_method": "gptq", "bits": 4}), "(gptq)", 2
    ),
    Hostile(
        "awq", broken.config(quantization_config={"quant_method": "awq", "bits": 4}), "(awq)", 2
    ),
    Hostile("fp8", broken.config(quantization_config={"quant_method": "fp8"}), "(fp8)", 2),
    Hostile("quantised somehow", broken.config(quantization_config=4), "quantised", 2),
    Hostile(
        "weights elsewhere", broken.config(transformers_weights="../x.safetensors"), "by `trans", 2
    ),
    Hostile("an encoder", broken.config(model_type="bert"), "is an encoder (bert)", 2),
    Hostile("encoder and decoder", broken.config(model_type="t5"), "is a `t5`", 2),
    Hostile("an encoder whole", broken.encoder, "is an encoder (bert)", 2),
    Hostile("a model of pictures", broken.config(model_type="vit"), "is a `vit`", 2),
    Hostile("generation is null", broken.text("generation_config.json", "null"), "holds null", 4),
    Hostile(
        "generation is a page",
        broken.text("generation_config.json", broken.PAGE),
        "is a web page",
        4,
    ),
    Hostile(
        "generation ends in a text",
        broken.edit("generation_config.json", eos_token_id="x"),
        "`eos_token_id` is 'x'",
        2,
    ),
    Hostile(
        "generation ends beyond the embedding",
        broken.edit("generation_config.json", eos_token_id=[1, 5000]),
        "5000",
        2,
    ),
]
_WEIGHTS = [
    Hostile("weights are cut", broken.cut(broken.WEIGHTS, 500), "model.safetensors: is torn", 4),
    Hostile("weights go on", broken.cut(broken.WEIGHTS, -500), "model.safetensors: is torn", 4),
    Hostile("weights are empty", broken.raw(broken.WEIGHTS, b""), "model.safetensors: is empty", 4),
    Hostile(
        "weights of four bytes", broken.raw(broken.WEIGHTS, b"\1\0\0\0"), "no safetensors file", 4
    ),
    Hostile("weights are zeros", broken.raw(broken.WEIGHTS, b"\0" * 5000), "makes no sense", 4),
    Hostile(
        "weights are a pointer", broken.text(broken.WEIGHTS, broken.POINTER), "git lfs pull", 2
    ),
    Hostile("weights are a page", broken.text(broken.WEIGHTS, broken.PAGE), "is a web page", 4),
    Hostile("weights are a folder", broken.folder_instead(broken.WEIGHTS), "is a folder", 2),
    Hostile(
        "weights lead nowhere", broken.linked(broken.WEIGHTS, "../../blobs/0"), "is not there", 2
    ),
    Hostile(
        "weights are a pickle",
        broken.raw(broken.WEIGHTS, b"\x80\x04}q\0.aaaaaaa"),
        "is a pickle",
        2,
    ),
    Hostile(
        "weights are an archive", broken.raw(broken.WEIGHTS, b"PK\3\4aaaaaaaaa"), "is a pickle", 2
    ),
    Hostile("no weights", broken.gone(broken.WEIGHTS), "has no weights", 2),
    Hostile("only a pickle", broken.pickled, "pytorch_model.bin", 2),
    Hostile(
        "header is a list", broken.raw(broken.WEIGHTS, struct.pack("<Q", 2) + b"[]"), "no sense", 4
    ),
    Hostile(
        "header is no text",
        broken.raw(broken.WEIGHTS, struct.pack("<Q", 2) + b"\xff{"),
        "no sense",
        4,
    ),
    Hostile("tensors overlap", broken.header(broken.overlapping), "overlaps another", 4),
    Hostile(
        "shape below zero",
        broken.header(lambda found: found[broken.EMBEDDING].update(shape=[-1, -32])),
        "no whole number",
        4,
    ),
    Hostile(
        "type of no kind",
        broken.header(lambda found: found[broken.EMBEDDING].update(dtype="F31")),
        "F31",
        4,
    ),
    Hostile("weights of int8", broken.tensors(broken.cast_to(torch.int8)), "is of type I8", 2),
    Hostile(
        "weights of fp8",
        broken.tensors(broken.cast_to(torch.float8_e4m3fn)),
        "is of type F8_E4M3",
        2,
    ),
    Hostile(
        "a tensor is missing",
        broken.tensors(lambda found: found.pop("model.norm.weight")),
        "1 m",
        4,
    ),
    Hostile(
        "a tensor too many",
        broken.tensors(lambda found: found.update({"extra.weight": torch.zeros(3)})),
        "unexpected keys",
        4,
    ),
    Hostile("a weight is NaN", broken.tensors(broken.with_nan), "holds NaN", 4),
    Hostile(
        "a tensor of another shape",
        broken.tensors(lambda found: found.update({"model.norm.weight": torch.zeros(33)})),
        "shapes",
        4,
    ),
]
_INDEX = [
    Hostile("index outside the folder", broken.outside, "-outside.safetensors`", 2),
    Hostile(
        "index at a path",
        broken.sharded(lambda places: places.update({broken.EMBEDDING: "/etc/passwd"})),
        "/etc/passwd",
        2,
    ),
    Hostile(
        "index at a pickle",
        broken.both(
            broken.sharded(lambda places: places.update({broken.EMBEDDING: "evil.bin"})),
            broken.raw("evil.bin", b"x"),
        ),
        "names the pickle `evil.bin`",
        2,
    ),
    Hostile(
        "index at no shard",
        broken.sharded(lambda places: places.update({broken.EMBEDDING: "gone.safetensors"})),
        "`gone.safetensors`, which is not there",
        4,
    ),
    Hostile(
        "index at a number",
        broken.sharded(lambda places: places.update({broken.EMBEDDING: 3})),
        "in no file",
        4,
    ),
    Hostile(
        "index at another shard",
        broken.sharded(
            lambda places: places.update({"model.norm.weight": "model-00001-of-00002.safetensors"})
        ),
        "is not in `model-00001-of-00002.safetensors`",
        4,
    ),
    Hostile("a tensor in two shards", broken.sharded(twice=True), "is both in", 4),
    Hostile(
        "index is empty",
        broken.both(broken.sharded(), broken.text(broken.INDEX, "")),
        "index.json: is empty",
        4,
    ),
    Hostile(
        "index is a list",
        broken.both(broken.sharded(), broken.text(broken.INDEX, "[]")),
        "holds a list",
        4,
    ),
    Hostile(
        "index has no map",
        broken.both(broken.sharded(), broken.text(broken.INDEX, "{}")),
        "has no `weight_map`",
        4,
    ),
    Hostile(
        "index is a pointer",
        broken.both(broken.sharded(), broken.text(broken.INDEX, broken.POINTER)),
        "git lfs pull",
        2,
    ),
    Hostile(
        "no index",
        broken.both(broken.sharded(), broken.gone(broken.INDEX)),
        "has no model.safetensors, only",
        2,
    ),
    Hostile(
        "a shard is a pointer",
        broken.both(
            broken.sharded(), broken.text("model-00002-of-00002.safetensors", broken.POINTER)
        ),
        "model-00002-of-00002.safetensors: is a git-lfs pointer",
        2,
    ),
]
_TOKENIZERS = [
    Hostile("tokenizer is a pointer", broken.text(TOKENIZER, broken.POINTER), "git lfs pull", 2),
    Hostile("tokenizer is empty", broken.text(TOKENIZER, ""), "tokenizer.json: is empty", 4),
    Hostile("tokenizer is null", broken.text(TOKENIZER, "null"), "holds null", 4),
    Hostile("tokenizer says nothing", broken.text(TOKENIZER, "{}"), "as a tokenizer", 4),
    Hostile("tokenizer is cut", broken.cut(TOKENIZER, 99), "tokenizer.json: is not JSON", 4),
    Hostile(
        "tokenizer of no kind", broken.edit(TOKENIZER, model={"type": "Magic"}), "as a tokenizer", 4
    ),
    Hostile("tokenizer without words", broken.edit(TOKENIZER, model={}), "as a tokenizer", 4),
    Hostile("settings are a list", broken.text("tokenizer_config.json", "[]"), "holds a list", 4),
    Hostile(
        "tokenizer's own code",
        broken.edit("tokenizer_config.json", auto_map={"AutoTokenizer": ["x.X", None]}),
        "auto_map",
        2,
    ),
    Hostile(
        "tokenizer of no class",
        broken.both(broken.edit("tokenizer_config.json", eos_token=7)),
        "as a tokenizer",
        4,
    ),
    Hostile(
        "no tokenizer", broken.gone(TOKENIZER, "tokenizer_config.json"), "holds no tokenizer", 2
    ),
    Hostile("template is broken", broken.text(TEMPLATE, "{% for m in messages %}"), "line 1", 2),
    Hostile("template is a pointer", broken.text(TEMPLATE, broken.POINTER), "git lfs pull", 2),
    Hostile("template is huge", broken.text(TEMPLATE, "x" * 1_000_001), "1000001 characters", 2),
    Hostile(
        "template is nested", broken.text(TEMPLATE, "{{ " + "(" * 5000 + ")" * 5000), "deeply", 2
    ),
    Hostile("template of powers", broken.text(TEMPLATE, "{{ 9 ** 9 ** 9 }}"), "power", 2),
    Hostile(
        "template is a number",
        broken.edit("tokenizer_config.json", chat_template=5),
        "not a text",
        2,
    ),
]
_FOLDERS = [
    Hostile("folder is empty", broken.emptied, "is empty", 2),
    Hostile("folder is a file", broken.file_instead, "is a file", 2),
]
_REWARDS = [
    Hostile("a language model", lambda folder: None, "missing keys", 4, "reward"),
    Hostile("two outputs", broken.two_outputs, "its head has 2 outputs", 2, "reward"),
    Hostile("torn reward model", broken.cut(broken.WEIGHTS, 8), "is torn", 4, "reward"),
]
HOSTILE = [*_CONFIG, *_WEIGHTS, *_INDEX, *_TOKENIZERS, *_FOLDERS, *_REWARDS, *ADAPTERS]
# What it takes the libraries to find: everything else is found from bytes alone, by plan.
NEED_LIBRARIES = frozenset(
    {
        "no config",  # which may be a folder with a tokenizer alone
        *("config says nothing", "unknown model type", "model type is a list"),
        *("heads do not divide", "no heads", "one layer more", "half the width"),
        *("rope of no kind", "activation of no kind", "an encoder", "an encoder whole"),
        *("encoder and decoder", "a model of pictures", "a tensor is missing"),
        *("a tensor too many", "a weight is NaN", "a tensor of another shape"),
        *("tokenizer says nothing", "tokenizer of no kind", "tokenizer without words"),
        *("tokenizer of no class", "no tokenizer", "a language model", "two outputs"),
        *("rank is another", "targets of nothing", "adapter of another shape"),
        *("adapter of other layers", "adapter is NaN"),
    }
)
