"""The chat template of models made from nothing, and its control tokens.

    <|system|>Be short.
    calculator(expression: string): Computes a sum or a product.<|end|>
    <|user|>What is 47 * 35?<|end|>
    <|assistant|><|system|>calculator(expression="47 * 35")<|end|>
    <|system|>1645<|end|>
    <|assistant|>The answer is 1645.<|end|>

(each turn follows the one before without a line break). A call is addressed to the system, and the
system answers: so tools take no tokens of their own, the ids of chats without tools are what they
were before there were any, and no text can forge a call or an answer. A call is written as in
Python, each value as JSON, since a small model has to write it. A tool is shown by its name, its
parameters with their types (one with more than a type and a description as its JSON schema, a `?`
behind one that is not required) and its description; the descriptions of single parameters are not
shown. Each turn only adds text behind the turns before it. The comment at its beginning tells
eval/tools/calls.py how to read calls.
"""

SPECIAL_TOKENS = END_OF_TEXT, PAD, SYSTEM, USER, ASSISTANT, END_OF_TURN = (
    "<|endoftext|>",
    "<|pad|>",
    "<|system|>",
    "<|user|>",
    "<|assistant|>",
    "<|end|>",
)
_PARAMETER = (
    "{{ (', ' if not loop.first else '') + name"
    " + ('?' if 'required' in parameters and name not in parameters['required'] else '')"
    " + ': ' }}"
    "{% if schema['type'] is string and schema | length == (2 if 'description' in schema else 1) %}"
    "{{ schema['type'] }}{% else %}{{ schema | tojson }}{% endif %}"
)
_TOOL = (
    "{% set function = tool['function'] or tool %}{{ '\\n' if not loop.first else '' }}"
    "{% set parameters = function['parameters'] or {} %}{{ function['name'] + '(' }}"
    "{% if parameters['properties'] is mapping %}"
    f"{{% for name, schema in parameters['properties'].items() %}}{_PARAMETER}{{% endfor %}}"
    "{% elif parameters %}{{ parameters | tojson }}{% endif %}{{ ')' }}"
    "{% if function['description'] %}{{ ': ' + function['description'] }}{% endif %}"
)
_CALL = (
    "{% set function = call['function'] or call %}{{ '<|system|>' + function['name'] + '(' }}"
    "{% if function['arguments'] is mapping %}"
    "{% for name, value in function['arguments'].items() %}"
    "{{ (', ' if not loop.first else '') + name + '=' + (value | tojson) }}{% endfor %}"
    "{% else %}{{ function['arguments'] or '' }}{% endif %}{{ ')' }}"
)
CHAT_TEMPLATE = (
    "{#- posttrain: tool_calls=python -#}"
    "{% if tools %}{{ '<|system|>' }}{% if messages[0]['role'] == 'system' %}"
    "{{ messages[0]['content'] + '\\n' }}{% endif %}"
    f"{{% for tool in tools %}}{_TOOL}{{% endfor %}}{{{{ '<|end|>' }}}}{{% endif %}}"
    "{% for message in messages %}"
    "{% if not (tools and loop.first and message['role'] == 'system') %}"
    "{{ '<|' + ('system' if message['role'] == 'tool' else message['role']) + '|>'"
    " + (message['content'] or '') }}"
    f"{{% for call in message['tool_calls'] or [] %}}{_CALL}{{% endfor %}}"
    "{{ '<|end|>' }}{% endif %}"
    "{% endfor %}{% if add_generation_prompt %}{{ '<|assistant|>' }}{% endif %}"
)
