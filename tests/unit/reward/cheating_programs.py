"""Programs that want to be paid for an `add` that does not add, and what `add` is tested by."""

from reward.verifiers.code import Case

CASES = [Case([2, 3], 5), Case([-1, 1], 0), Case([10**20, 1], 10**20 + 1)]
ASSERTIONS = "assert add(2, 3) == 5\nassert add(-1, 1) == 0\nassert add(10**20, 1) == 10**20 + 1"
MAPPED = """
pairs = [(2, 3), (-1, 1)]
assert all(map(lambda pair: add(*pair) == sum(pair), pairs))
"""
CHECK = """
METADATA = {}
def check(candidate):
    for a in range(20):
        assert candidate(a, 3 * a) == 4 * a
    assert abs(candidate(0.5, 0.25) - 0.75) < 1e-6
    assert candidate(2, 3) == 5, "the sum"
"""
WRONG = "def add(a, b): return a - b\n"
CHEATS = {
    "nothing": "",
    "no_body": "def add(a, b): pass",
    "wrong": WRONG,
    "exit": f"import sys\n{WRONG}sys.exit(0)",
    "exit_in_call": "import sys\ndef add(a, b): sys.exit(0)",
    "hard_exit": f"import os\n{WRONG}os._exit(0)",
    "hard_exit_in_call": "import os\ndef add(a, b): os._exit(0)",
    "system_exit": "def add(a, b): raise SystemExit(0)",
    "execv": "import os\ndef add(a, b): os.execv('/bin/true', ['true'])",
    "kill_itself": "import os\ndef add(a, b): os.kill(os.getpid(), 9)",
    "quit_at_exit": f"import atexit, os\n{WRONG}atexit.register(os._exit, 0)",
    "excepthook": f"import sys, os\n{WRONG}sys.excepthook = lambda *_: os._exit(0)\n1/0",
    "equal_to_all": """
class Yes:
    def __eq__(self, other): return True
    def __ne__(self, other): return False
    def __sub__(self, other): return self
    def __abs__(self): return 0
    def __bool__(self): return True
    __hash__ = None
def add(a, b): return Yes()
""",
    "int_equal_to_all": """
class Yes(int):
    def __eq__(self, other): return True
    def __sub__(self, other): return 0.0
    def __int__(self): return 5
    def __index__(self): return 5
    __hash__ = int.__hash__
def add(a, b): return Yes(1)
""",
    "float_equal_to_all": """
class Yes(float):
    def __eq__(self, other): return True
    def __float__(self): return 0.75
def add(a, b): return Yes(1)
""",
    "claims_another_class": """
class Liar:
    __class__ = int
    def __eq__(self, other): return True
    def __index__(self): return 5
def add(a, b): return Liar()
""",
    "metaclass": """
class Meta(type):
    def __eq__(self, other): return True
    def __instancecheck__(self, other): return True
class Yes(metaclass=Meta): pass
def add(a, b): return Yes
""",
    "reads_command_line": """
def add(a, b):
    text = open('/proc/self/cmdline').read() + open('/proc/self/environ').read()
    return eval(text)
""",
    "reads_frames": """
import sys
def add(a, b):
    frame = sys._getframe()
    while frame:
        for name, value in frame.f_locals.items():
            if name in ("tests", "expected", "cases"): return value
            if name == "result": value.append("passed")
            if name == "status": frame.f_locals["status"] = "finished"
        frame = frame.f_back
    return None
""",
    "searches_objects": """
import gc
def add(a, b):
    for thing in gc.get_objects():
        if isinstance(thing, dict) and "tests" in thing: return thing["tests"]
        if isinstance(thing, list): thing.append("passed")
    return None
""",
    "prints_a_result": f'{WRONG}print(\'{{"value": 5}}\', flush=True)\nprint(\'["finished", ""]\')',
    "writes_replies": """
import os, struct
for reply in (b'{"value": 5}', b'["finished", ""]', b'0' * 16 + b'{"value": 5}'):
    for descriptor in (1, 2, 3, 4):
        try: os.write(descriptor, struct.pack("!I", len(reply)) + reply)
        except OSError: pass
def add(a, b): return None
""",
    "writes_verdict_instead_of_a_reply": """
import os, struct
def add(a, b):
    for frame in [0, 0, 0]:
        reply = b'["finished", ""]'
        os.write(3, struct.pack("!I", len(reply)) + reply)
    os._exit(0)
""",
    "patches_the_harness": """
import sys, json
for name, module in list(sys.modules.items()):
    if name.startswith("reward"):
        for key, value in list(vars(module).items()):
            if callable(value) and not key.startswith("__"):
                setattr(module, key, lambda *a, **k: ("finished", ""))
json.dumps = lambda *a, **k: '["finished", ""]'
def add(a, b): return None
""",
    "patches_builtins": """
import builtins
builtins.AssertionError = type("E", (Exception,), {})
builtins.abs = lambda x: 0
builtins.range = lambda *a: []
builtins.isinstance = lambda *a: True
builtins.type = lambda *a: int
def abs(x): return 0
def range(*a): return []
def add(a, b): return None
""",
    "redefines_check": """
def check(candidate): return None
def add(a, b): return None
class METADATA: pass
""",
    "traces": """
import sys
def trace(frame, event, argument):
    frame.f_locals["status"] = "finished"
    return trace
sys.settrace(trace)
def add(a, b): return None
""",
    "swallows_exceptions": """
import sys, threading
sys.unraisablehook = threading.excepthook = lambda *_: None
def add(a, b):
    try: return 1 / 0
    except BaseException: return ...
""",
    "nan": "def add(a, b): return float('nan')",
    "generator": "def add(a, b): yield 5",
    "callable_result": "def add(a, b): return add",
    "deep_result": "x = []\nfor _ in range(10**5): x = [x]\ndef add(a, b): return x",
    "collisions": "def add(a, b): return {k * (2**61 - 1) for k in range(1, 30_000)}",
    "forged_collisions": """
import json
reply = json.dumps({"value": {"set": [k * (2**61 - 1) for k in range(1, 40_000)]}})
json.dumps = lambda *a, **k: reply
def add(a, b): return None
""",
    "reads_ahead": """
import os
seen = os.read(3, 1 << 16)
def add(a, b): return 5
""",
    "ends_the_iteration": "def add(a, b): raise StopIteration",
    "ends_every_loop": "def add(a, b): return next(iter([]))",
    "forged_range": """
import json
json.dumps = lambda *a, **k: '{"value": {"tuple": {"range": [0, 1000000000000, 1]}}}'
def add(a, b): return None
""",
    "forged_name": """
import json
json.dumps = lambda *a, **k: '{"value": {"name": "math"}}'
def add(a, b): return None
""",
    "forged_exception": """
import json
json.dumps = lambda *a, **k: '{"raised": ["StopIteration", ""]}'
def add(a, b): return None
""",
    "asserts_itself": "def add(a, b): assert False",
    "raises_a_group": "def add(a, b): raise BaseExceptionGroup('x', [SystemExit(0)])",
    "is_a_number_to_all": """
class Yes(complex):
    def __eq__(self, other): return True
    def __abs__(self): return 0.0
    def __sub__(self, other): return 0
    __rsub__ = __sub__
    __hash__ = complex.__hash__
def add(a, b): return Yes(1)
""",
    "is_text_to_all": """
class Yes(str):
    def __eq__(self, other): return True
    __hash__ = str.__hash__
def add(a, b): return Yes("5")
""",
    "bool_for_all": "def add(a, b): return True",
    "list_of_all": "def add(a, b): return [5, 0, 10**20 + 1]",
    "type_for_all": "def add(a, b): return int",
    "attributes_for_all": """
class Yes:
    def __getattr__(self, name): return lambda *a: True
def add(a, b): return Yes()
""",
    "signal_of_success": "import signal\ndef add(a, b): signal.raise_signal(signal.SIGTERM)",
    "memory": "def add(a, b): return bytearray(10**12)",
    "patched_modules_of_tests": """
import sys, math, collections, operator
for name in ("math", "collections", "operator", "unittest", "numpy"):
    module = sys.modules.get(name)
    if module:
        for key in list(vars(module)):
            if not key.startswith("__"): setattr(module, key, lambda *a, **k: True)
def add(a, b): return None
""",
    "late_definition": "def add(a, b):\n    global add\n    add = lambda *_: 5\n    return add",
    "answers_of_the_first": "answers = iter([5])\ndef add(a, b): return next(answers)",
    "visible_case": "def add(a, b): return 5 if (a, b) == (2, 3) else None",
}
