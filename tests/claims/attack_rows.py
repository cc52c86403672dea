"""More programs, queries and exceptions that attack; the first ones are the unit tests'.

`attack` is passed what `World` in tests/unit/reward/sandbox_world.py holds; `gained` holds whatever
an attempt gave it (PRELUDE in tests/unit/reward/hostile_programs.py).
"""

PROGRAMS = {
    "the secret in memory": """
import gc
def attack(folder, **_):
    for thing in gc.get_objects():
        if isinstance(thing, dict) and any("JUDGE" in str(key) for key in list(thing)):
            gained.append("found")
""",
    "other descriptors": """
def attack(**_):
    for number in range(4, 300):
        attempt(os.read, number, 10)
        attempt(os.write, number, b"x")
""",
    "a descriptor that is sent": """
import array, socket
def attack(**_):
    attempt(lambda: socket.socket(fileno=3).sendmsg([b"x"]))
    attempt(lambda: socket.socket(fileno=3).getpeername())
    attempt(lambda: socket.fromfd(3, socket.AF_UNIX, socket.SOCK_STREAM).send(b"x"))
""",
    "shared memory": """
import mmap
def attack(**_):
    attempt(lambda: __import__("_posixshmem").shm_open("/posttrain-attack-1", os.O_CREAT, 0o600))
    attempt(lambda: __import__("multiprocessing.shared_memory").shared_memory.SharedMemory("x"))
""",
    "the memory of the parent": """
def attack(parent, **_):
    for process in (parent, os.getpid(), 1):
        attempt(lambda: open(f"/proc/{process}/mem", "rb").read(1))
        for number in (310, 311, 101, 312, 438):
            result = syscall(number, process, 0, 0, 0, 0)
            if result >= 0: gained.append([number, result])
""",
    "timers and alarms": """
def attack(**_):
    attempt(signal.setitimer, signal.ITIMER_REAL, 0.01)
""",
    "a scheduler of its own": """
def attack(**_):
    attempt(os.nice, -5)
    attempt(os.sched_setscheduler, 0, os.SCHED_FIFO, os.sched_param(1))
    attempt(os.setpriority, os.PRIO_PROCESS, 0, -10)
""",
    "a new session": """
def attack(**_):
    attempt(os.setsid)
    attempt(os.setpgid, 0, 0)
    attempt(os.umask, 0)
""",
    "a terminal": """
import fcntl, termios
def attack(**_):
    for number in range(4):
        attempt(fcntl.ioctl, number, termios.TIOCSTI, b"x")
        attempt(os.ttyname, number)
""",
    "names of hosts": """
import socket
def attack(**_):
    attempt(socket.gethostbyname, "localhost")
    attempt(socket.getaddrinfo, "localhost", 80)
    attempt(socket.gethostname)
""",
    "a database file": """
import sqlite3
def attack(folder, **_):
    attempt(lambda: sqlite3.connect(f"{folder}/x.db").execute("create table t(a)"))
    attempt(lambda: sqlite3.connect(":memory:").execute(f"attach '{folder}/y.db' as y"))
    attempt(lambda: sqlite3.connect(":memory:").execute(f"vacuum into '{folder}/z.db'").fetchall())
""",
    "a log file": """
import logging, traceback
def attack(folder, **_):
    attempt(lambda: logging.FileHandler(f"{folder}/log"))
    attempt(lambda: __import__("faulthandler").dump_traceback(open(f"{folder}/trace", "w")))
""",
    "a pickle": """
import pickle
class Run:
    def __reduce__(self): return os.mkdir, ("/tmp/posttrain-attack-9",)
def attack(**_):
    attempt(pickle.loads, pickle.dumps(Run()))
    return Run()
""",
    "a string without end": "def attack(**_):\n    return 'a' * 10**12",
    "a number without end": "def attack(**_):\n    return len(str(7 ** 10**6)) and 10 ** 10**8",
    "a list of pairs": """
def attack(**_):
    return list(__import__('itertools').product(range(10**4), repeat=3))
""",
    "a bomb of zeros": """
import zlib
def attack(**_):
    bomb = zlib.compress(bytes(100_000_000))
    for _ in range(20):
        attempt(lambda: len(zlib.decompress(bomb) * 20))
    gained.clear()
    return 1
""",
    "a pattern without end": """
import re
def attack(**_):
    return re.compile('(' * 50_000 + ')' * 50_000)
""",
    "a source without end": "x = " + "[" * 90_000,
    "a source of one long sum": "x = " + "+".join(["1"] * 200_000),
    "a class without end": """
class Meta(type):
    def __getattribute__(cls, name): return cls
    def __instancecheck__(cls, other): return True
class Odd(metaclass=Meta):
    __class__ = property(lambda self: list)
    def __iter__(self): return iter(range(10**9))
    def __len__(self): return -1
def attack(**_):
    return Odd()
""",
    "a list that lies": """
class Lie(list):
    def __iter__(self): return iter(range(10**9))
    def __len__(self): return 10**12
    def __getitem__(self, place): os._exit(0)
def attack(**_):
    return [Lie([1])]
""",
    "a dict that lies": """
class Lie(dict):
    def items(self): raise SystemExit
    keys = values = __iter__ = items
def attack(**_):
    return Lie(a=1)
""",
    "a text that lies": """
class Lie(str):
    def __str__(self): return 7
    def encode(self, *_): raise MemoryError
    def __hash__(self): raise ValueError
def attack(**_):
    return {"a": Lie("x")}
""",
    "a number that lies": """
class Lie(int):
    def __int__(self): return "x"
    __index__ = __repr__ = __str__ = __int__
class Wrong(float):
    def __float__(self): return None
    __repr__ = __float__
def attack(**_):
    return [Lie(1), Wrong(2)]
""",
    "an exception without words": """
class Boom(Exception):
    def __str__(self): raise Boom
    __repr__ = __str__
def attack(**_):
    raise Boom
""",
    "an exception that speaks forever": """
class Boom(BaseException):
    def __str__(self): return "x" * 300_000_000
def attack(**_):
    raise Boom
""",
    "an exception with an odd name": """
def attack(**_):
    raise type('\\ud800\
\\x1b[2J' * 1000, (Exception,), {})
""",
    "exceptions of every kind": """
def attack(**_):
    raise BaseExceptionGroup("x", [KeyboardInterrupt(), SystemExit(), GeneratorExit()])
""",
    "an exit that looks killed": "def attack(**_):\n    os._exit(137)",
    "an end by its own signal": """
def attack(**_):
    attempt(signal.raise_signal, 9)
    os.abort()
""",
    "hooks": """
import threading, atexit, gc
def attack(**_):
    sys.excepthook = sys.unraisablehook = threading.excepthook = lambda *_: os._exit(0)
    atexit.register(lambda: [0 for _ in iter(int, 1)])
    gc.callbacks.append(lambda *_: 1 / 0)
    gc.collect()
    raise SystemExit
""",
    "no collection": "import gc\nclass C:\n    def __del__(self): C()\ndef attack(**_):\n    C()",
    "half of a message": """
def attack(**_):
    os.write(3, b"\\x00\\x00\\x10\\x00" + b"x" * 10)
    os._exit(0)
""",
    "a message of four gigabytes": """
def attack(**_):
    os.write(3, b"\\xff\\xff\\xff\\xff" + b"x" * 1000)
    os._exit(0)
""",
    "replies to questions that were not asked": """
import struct
def attack(**_):
    message = b"n" * 16 + b'{"value": 1}'
    os.write(3, (struct.pack("!I", len(message)) + message) * 1000)
""",
    "the questions read ahead": """
def attack(**_):
    attempt(os.read, 3, 1 << 20)
    gained.clear()
    return 1
""",
    "a channel that is taken": """
def attack(**_):
    frame = sys._getframe()
    while frame:
        channel = frame.f_locals.get("channel")
        if channel is not None:
            channel.send(b'{"value": {"tuple": {"range": [0, 1000000000000, 1]}}}')
            channel.send(b"[" * 1_000_000)
        frame = frame.f_back
""",
    "a harness that is patched": """
def attack(**_):
    for name, module in list(sys.modules.items()):
        if name.startswith("reward"):
            for key in list(vars(module)):
                setattr(module, key, None)
""",
    "builtins that are gone": """
import builtins
def attack(**_):
    for name in list(vars(builtins)):
        if name != "delattr": delattr(builtins, name)
""",
    "modules that are gone": """
def attack(**_):
    sys.modules.clear()
    sys.path[:] = ['/']
    import json
""",
    "another architecture": """
def attack(**_):
    for number in (0x40000000 + 57, 0x40000000 + 59, 0x40000000 + 62):
        result = syscall(number, 0, 0, 0)
        if result >= 0: gained.append(result)
""",
}
ENDLESS = {
    "a drip of bytes": """
def attack(**_):
    os.write(3, b"\\x00\\x0f\\xff\\xff")
    while True:
        os.write(3, b"x")
        time.sleep(0.01)
""",
    "silence after half a message": """
def attack(**_):
    os.write(3, b"\\x00\\x00\\x10\\x00x")
    time.sleep(1000)
""",
    "words without end": """
class Boom(Exception):
    def __str__(self):
        while True: pass
def attack(**_):
    raise Boom
""",
    "exits that are caught": """
def attack(**_):
    while True:
        try: time.sleep(100)
        except BaseException: pass
""",
    "a lock that is never free": """
import threading
def attack(**_):
    a = threading.Lock()
    a.acquire()
    a.acquire()
""",
    "sorting without end": """
class C:
    def __lt__(self, other):
        while True: pass
def attack(**_):
    sorted([C(), C()])
""",
    "a power without end": "def attack(**_):\n    return pow(3, 10**9)",
}
QUERIES = {
    "another database": "attach '/tmp/posttrain-attack-sql' as x",
    "a copy": "vacuum into '/tmp/posttrain-attack-sql'",
    "a file read": "select readfile('/etc/passwd')",
    "a file written": "select writefile('/tmp/posttrain-attack-sql', 'x')",
    "an extension": "select load_extension('/tmp/x.so')",
    "a tokenizer": "select fts3_tokenizer('simple', x'4141414141414141')",
    "a pragma": "pragma database_list",
    "a pragma as a table": "select * from pragma_database_list",
    "files as a table": "select * from fsdir('/')",
    "a new table": "create table u as select 1",
    "a temporary table": "create temp table u(a)",
    "a virtual table": "create virtual table v using fts5(a)",
    "a trigger": "create trigger t after insert on people begin select 1; end",
    "a deletion": "delete from people",
    "a deletion that returns": "delete from people returning *",
    "two statements": "select 1; delete from people",
    "a transaction": "begin exclusive",
    "a gigabyte": "select hex(zeroblob(1000000000))",
    "a long text": "select printf('%1000000000d', 1)",
    "many rows": "with recursive n(i) as (select 1 union all select i + 1 from n limit 10000000) "
    "select i from n",
    "a query without end": "with recursive n(i) as (select 1 union all select i + 1 from n) "
    "select max(i) from n",
    "a product without end": "with recursive n(i) as (select 1 union all select i + 1 from n limit "
    "3000) select count(*) from n a, n b, n c, n d",
    "a pattern without end": "select count(*) from people where printf('%.*c', 9000, 'a') like "
    "'%a%a%a%a%a%a%a%a%a%a%a%a%b'",
    "deep brackets": "select " + "(" * 5000 + "1" + ")" * 5000,
    "a long union": " union all ".join(["select 1"] * 5000),
    "nested JSON": "select json(printf('%.*c', 5000, '['))",
    "text that is none": "select cast(x'ff00fe' as text)",
    "a null in it": "select 1 \0 ; delete from people",
    "surrogates": "select '\ud800'",
    "numbers beyond floats": "select 9e999, -9e999, 9e999 - 9e999, 0x7fffffffffffffff",
    "only ends": ";;;;",
    "an end in a comment": "select 1 /* ; delete from people",
}
