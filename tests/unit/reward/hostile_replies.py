"""Replies that a program writes in place of its box's own, to whoever reads them.

What is written is text of JSON; `forger` makes a program that answers every call with one.
"""

import json

_MERSENNE = 2**61 - 1  # every multiple of it has the hash 0


def forger(reply: str, function: str = "attack") -> str:
    """Return a program whose function, once it is loaded, is answered for by this text."""
    return (
        f"import json\njson.dumps = lambda *_, **__: {reply!r}\ndef {function}(*_, **__): return 1"
    )


def _value(value: object) -> str:
    return json.dumps({"value": value})


def _many(unit: str, number: int, last: str = "0") -> str:
    return f'{{"value": [{unit * number}{last}]}}'


def _without_one(items: list[object], number: int) -> list[object]:
    return [{"frozenset": items[:place] + items[place + 1 :]} for place in range(number)]


def _nested_collisions(levels: int) -> object:
    """Return sets of sets whose elements collide: each level is compared with each other."""
    items: list[object] = [number * _MERSENNE for number in range(1, 42)]
    for _ in range(levels):
        items = _without_one(items, min(len(items), 22))
    return {"set": items}


_COLLIDING = [number * _MERSENNE for number in range(1, 40_000)]
# Never a value, whoever reads it.
REFUSED = {
    **{
        f"a range in a {tag}": _value({tag: {"range": [0, 10**12, 1]}})
        for tag in ("tuple", "set", "frozenset", "deque", "dict", "bytes")
    },
    "an endless range in a tuple": _value({"tuple": {"range": [0, 10**30, 1]}}),
    "a type in a tuple": _value({"tuple": {"type": "int"}}),
    "a string in a tuple": _value({"tuple": "abc"}),
    "a set in a deque": _value({"deque": {"set": [1, 2]}}),
    "a dict of strings": _value({"dict": ["ab", "cd"]}),
    "a dict in a dict": _value({"dict": {"dict": [[1, 2]]}}),
    "a range by a range": _value({"range": [0, {"range": [0, 10**12, 1]}, 1]}),
    "a range of floats": _value({"range": [0.0, 1.0, 1.0]}),
    "a range without steps": _value({"range": [0, 9, 0]}),
    "a complex number beyond floats": _value({"complex": [10**400, 0]}),
    "a complex text": _value({"complex": ["1", "j"]}),
    "bytes by number": _value({"bytes": 1 << 40}),
    "bytes of no digits": _value({"bytes": "zz"}),
    "two tags": _value({"set": [1], "tuple": [2]}),
    "no tag": _value({}),
    "a class of ours": _value({"type": "Remote"}),
    "a function as a type": _value({"type": "eval"}),
    "a type by a list": _value({"type": ["int"]}),
    "a name": _value({"name": "os"}),
    "a reference without a number": _value({"object": [None, "f"]}),
    "a list in a set": _value({"set": [[1]]}),
    "a dict as a key": _value({"dict": [[{"dict": []}, 1]]}),
    "a million brackets": '{"value": ' + "[" * 1_000_000,
    "nested lists": f'{{"value": {"[" * 900}{"]" * 900}}}',
    "nested tuples": '{"value": ' + '{"tuple": [' * 300 + "]}" * 300 + "}",
    "nested objects": '{"value": ' + '{"a": ' * 900 + "1" + "}" * 901,
    "a number of a million digits": '{"value": ' + "9" * 1_000_000 + "}",
    "many objects": _many("{},", 340_000),
    "colliding numbers in a set": _value({"set": _COLLIDING}),
    "colliding numbers as keys": _value({"dict": [[number, 0] for number in _COLLIDING[:30_000]]}),
    "colliding sets": _value(_nested_collisions(2)),
    "colliding sets of sets": _value(_nested_collisions(3)),
    "no JSON": "\ud83d\ude00",
    "nothing": "",
    "a list": "[]",
    "a text": '"value"',
    "another key": '{"result": 5}',
    "a status": '["finished", ""]',
    "a value and an exception": '{"raised": ["E", "x"], "value": {}}x',
    "an exception without words": '{"raised": ["E"]}',
    "an exception of numbers": '{"raised": [1, 2]}',
    "bytes of another encoding": '{"value": "\\u00ff"}\x00',
}
# Values, or exceptions, that take time and memory, or that text cannot hold.
TAKEN = {
    "many lists": _many("[],", 340_000),
    "many sets": _many('{"set":[]},', 90_000),
    "many tuples": _many('{"tuple":[]},', 70_000),
    "many texts": _many('"",', 340_000, '""'),
    "many numbers": _many("1,", 500_000),
    "long numbers": _many(f"{'9' * 4300},", 240),
    "a wide text": json.dumps({"value": "\U0001f600" + "a" * 1_000_000}),
    "lone surrogates": '{"value": "' + "\\ud800" * 100_000 + '"}',
    "numbers that are none": '{"value": [NaN, Infinity, -Infinity, 1e999, -0.0]}',
    "an endless range": _value({"range": [0, 10**4000, 1]}),
    "an exception of surrogates": '{"raised": ["E\\ud800", "\\ud800\\n\\u001b[2J"]}',
    "a long exception": json.dumps({"raised": ["E" * 400_000, "x" * 400_000]}),
    "an exit": '{"raised": ["SystemExit", "0"]}',
    "an interruption": '{"raised": ["KeyboardInterrupt", ""]}',
    "the end of an iteration": '{"raised": ["StopIteration", ""]}',
    "an end of memory": '{"raised": ["MemoryError", ""]}',
    "a group of exceptions": '{"raised": ["ExceptionGroup", "x"]}',
    "an exception of five parts": '{"raised": ["UnicodeDecodeError", "x"]}',
    "an exception that is a builtin": '{"raised": ["eval", "1"]}',
    "a broken schema": '{"raised": ["Broken", "the schema"]}',
    "an own encoding": json.dumps({"value": {"type": "object"}}),
}
