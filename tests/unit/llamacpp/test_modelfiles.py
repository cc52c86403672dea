"""The Modelfile for Ollama: turns in Go's template, tokens that stop, what is left to Ollama."""

from pipeline.llamacpp.modelfile import modelfile, turns_of
from pipeline.llamacpp.pretokenizers import PRE_TOKENIZERS
from tests.small_llamas import byte_level

CHATML = (
    "{% for message in messages %}{% if loop.first and messages[0]['role'] != 'system' %}"
    "{{ '<|im_start|>system\nYou are kind.<|im_end|>\n' }}{% endif %}{{'<|im_start|>' + "
    "message['role'] + '\n' + message['content'] + '<|im_end|>' + '\n'}}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)
LLAMA_2 = (
    "{% for message in messages %}{% if message['role'] == 'user' %}"
    "{{ bos_token + '[INST] ' + message['content'] + ' [/INST]' }}"
    "{% elif message['role'] == 'system' %}{{ raise_exception('no system message') }}"
    "{% else %}{{ ' ' + message['content'] + ' ' + eos_token }}{% endif %}{% endfor %}"
)
NUMBERED = (
    "{% for message in messages %}{{ loop.index ~ message['role'] + message['content'] + '\n' }}"
    "{% endfor %}{% if add_generation_prompt %}{{ 'assistant' }}{% endif %}"
)


def _modelfile(template: str) -> str:
    tokenizer = byte_level(PRE_TOKENIZERS[0])
    tokenizer.chat_template = template
    turns = turns_of(tokenizer)
    return modelfile("m-f16.gguf", turns, is_chat=True, stops=["<|end|>", '"\n'], context=256)


def test_turns_of_a_template_with_a_default_system_message() -> None:
    assert _modelfile(CHATML).startswith(
        'FROM ./m-f16.gguf\nTEMPLATE """{{ if .System }}<|im_start|>system\n{{ .System }}'
        "<|im_end|>\n{{ else }}<|im_start|>system\nYou are kind.<|im_end|>\n{{ end }}"
        "{{ range $i, $_ := .Messages }}{{ $last := eq (len (slice $.Messages $i)) 1 }}"
        '{{ if eq .Role "user" }}<|im_start|>user\n{{ .Content }}<|im_end|>\n'
        '{{ else if eq .Role "assistant" }}<|im_start|>assistant\n{{ .Content }}<|im_end|>\n'
        '{{ end }}{{ if and $last (ne .Role "assistant") }}<|im_start|>assistant\n{{ end }}'
        '{{ end }}"""\n'
    )


def test_a_template_without_system_messages() -> None:
    found = _modelfile(LLAMA_2)
    assert ".System" not in found
    assert "<s>[INST] {{ .Content }} [/INST]" in found
    assert " {{ .Content }} </s>" in found


def test_what_depends_on_the_place_is_left_to_ollama() -> None:
    found = _modelfile(NUMBERED)
    assert "TEMPLATE" not in found
    assert "# What its chat template writes depends on the turns" in found


def test_tokens_that_stop_sampling_without_a_penalty_and_the_context() -> None:
    assert _modelfile(CHATML).endswith(
        'PARAMETER stop "<|end|>"\nPARAMETER stop "\\"\\n"\n'
        "# Ollama's default penalises repetition; in training nothing did.\n"
        "PARAMETER repeat_penalty 1.0\nPARAMETER num_ctx 256\n"
    )


def test_a_model_of_texts_is_given_the_text_alone() -> None:
    found = modelfile("m.gguf", None, is_chat=False, stops=["</s>"], context=8192)
    assert found.splitlines()[1] == 'TEMPLATE """{{ .Prompt }}"""'
    assert "num_ctx" not in found


def test_text_that_go_would_read_is_written_as_a_string() -> None:
    found = _modelfile(CHATML.replace("You are kind.", 'Write {{ "so" }}.'))
    text = '<|im_start|>system\\nWrite {{ \\"so\\" }}.<|im_end|>\\n'
    assert f'{{{{ else }}}}{{{{ "{text}" }}}}{{{{ end }}}}' in found
