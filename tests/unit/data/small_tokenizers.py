"""Small real tokenizers, and the chat templates of well-known model families for them."""

import string
from collections.abc import Callable

from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers
from tokenizers.trainers import BpeTrainer
from transformers import PreTrainedTokenizerFast

OWN = (
    "{% for m in messages %}<|{{ m.role }}|>{{ m.content }}<|end|>{% endfor %}"
    "{% if add_generation_prompt %}<|assistant|>{% endif %}"
)
CHATML = (
    "{% for m in messages %}<|im_start|>{{ m.role }}\n{{ m.content }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
LLAMA3 = (
    "{{ bos_token }}{% for m in messages %}<|start_header_id|>{{ m.role }}<|end_header_id|>\n\n"
    "{{ m.content | trim }}<|eot_id|>{% endfor %}"
    "{% if add_generation_prompt %}<|start_header_id|>assistant<|end_header_id|>\n\n{% endif %}"
)
# Takes no generation prompt, folds the system message into the first user's, strips.
LLAMA2 = (
    "{% set start = 0 %}{% set system = '' %}"
    "{% if messages[0].role == 'system' %}{% set start = 1 %}"
    "{% set system = '<<SYS>>\n' + messages[0].content + '\n<</SYS>>\n\n' %}{% endif %}"
    "{% for m in messages[start:] %}"
    "{% if (m.role == 'user') != (loop.index0 % 2 == 0) %}"
    "{{ raise_exception('roles must alternate user/assistant') }}{% endif %}"
    "{% if m.role == 'user' %}{{ bos_token + '[INST] ' }}"
    "{{ ((system if loop.first else '') + m.content).strip() + ' [/INST]' }}"
    "{% else %}{{ ' ' + m.content.strip() + ' ' + eos_token }}{% endif %}{% endfor %}"
)
# An empty block before the last answer, which neither the prompt nor earlier answers have.
THINKING = (
    "{% for m in messages %}<|im_start|>{{ m.role }}\n"
    "{% if m.role == 'assistant' and loop.last %}<think>\n\n</think>\n\n{% endif %}"
    "{{ m.content.split('</think>')[-1] }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
# The system message moves into the last user turn, as in Mistral's later templates.
MISTRAL = (
    "{{ bos_token }}{% if messages[0].role == 'system' %}{% set system = messages[0].content %}"
    "{% set turns = messages[1:] %}{% else %}{% set turns = messages %}{% endif %}"
    "{% set users = turns | selectattr('role', 'equalto', 'user') | list %}"
    "{% for m in turns %}{% if m.role == 'user' %}[INST] "
    "{% if system is defined and m == users[-1] %}{{ system + '\n\n' }}{% endif %}"
    "{{ m.content }}[/INST]{% else %} {{ m.content }}{{ eos_token }}{% endif %}{% endfor %}"
)
TEMPLATES = {
    "own": OWN,
    "chatml": CHATML,
    "llama3": LLAMA3,
    "llama2": LLAMA2,
    "thinking": THINKING,
    "mistral": MISTRAL,
}
SPECIAL = [
    *("<|endoftext|>", "<|pad|>", "<|system|>", "<|user|>", "<|assistant|>", "<|end|>"),
    *("<s>", "</s>", "<|im_start|>", "<|im_end|>"),
    *("<|start_header_id|>", "<|end_header_id|>", "<|eot_id|>"),
]
CORPUS = [
    "The capital of France is Paris. What is 3 + 4? The answer is 7.\n\nHello, how are you today?",
    "user\nassistant\nsystem\nYou are a helpful assistant. [INST] Hello [/INST] answer <<SYS>>",
] * 4


def trained(backend: Tokenizer, alphabet: list[str]) -> PreTrainedTokenizerFast:
    """A tokenizer of some 500 tokens with the special tokens of all the templates."""
    trainer = BpeTrainer(vocab_size=600, special_tokens=SPECIAL, initial_alphabet=alphabet)
    trainer.show_progress = False
    backend.train_from_iterator(CORPUS, trainer)
    backend.add_tokens([AddedToken("<think>", normalized=False)])
    backend.add_tokens([AddedToken("</think>", normalized=False)])
    return PreTrainedTokenizerFast(
        tokenizer_object=backend,
        bos_token="<s>",
        eos_token="</s>",
        pad_token="<|pad|>",
        clean_up_tokenization_spaces=False,
    )


def byte_level_tokenizer() -> PreTrainedTokenizerFast:
    backend = Tokenizer(models.BPE())
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    backend.decoder = decoders.ByteLevel()
    return trained(backend, pre_tokenizers.ByteLevel.alphabet())


def legacy_sentence_piece_tokenizer() -> PreTrainedTokenizerFast:
    """Puts a space in front of a text and of what follows a control token, as Llama 2 does."""
    backend = Tokenizer(models.BPE())
    backend.normalizer = normalizers.Sequence(
        [normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")]
    )
    backend.pre_tokenizer = pre_tokenizers.Split(Regex("(?=▁)"), "isolated")
    backend.decoder = decoders.Sequence([decoders.Replace("▁", " "), decoders.Fuse()])
    return trained(backend, [*string.printable, "▁"])


def sentence_piece_tokenizer() -> PreTrainedTokenizerFast:
    """Puts a space in front of a text only, as later Mistral models do."""
    backend = Tokenizer(models.BPE())
    backend.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme="first")
    backend.decoder = decoders.Metaspace(prepend_scheme="first")
    return trained(backend, [*string.printable, "▁"])


TOKENIZERS: dict[str, Callable[[], PreTrainedTokenizerFast]] = {
    "byte_level": byte_level_tokenizer,
    "sentence_piece": sentence_piece_tokenizer,
    "legacy_sentence_piece": legacy_sentence_piece_tokenizer,
}
