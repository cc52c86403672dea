"""The process that boxes are forked from: a clean interpreter that never runs a program itself.

Started by pool.py as a process of its own, with an empty environment and nothing of the user's in
memory. It never reads a program or a test either: those go straight into the box, so that no box
inherits another's. It ends with its parent.
"""

import codecs
import gc
import importlib
import json
import os
import select
import signal
import socket
import sys
from contextlib import suppress
from typing import Any, NoReturn

from reward.boxes import gym
from reward.boxes.channel import READY, Answering, Asking
from reward.boxes.confine import confine
from reward.boxes.judge import judge
from reward.boxes.program import serve_program
from reward.boxes.query import select as select_rows

# What a program can import: nothing is read from files in a box. Forking takes longer for each
# megabyte here (0.6 ms with none of them, 1.3 ms with all), so what could not work in a box
# (subprocess, asyncio, tempfile) is left out.
_IMPORTABLE = """\
    __future__ abc argparse array ast base64 binascii bisect bz2 calendar cmath codecs collections
    collections.abc colorsys configparser contextlib contextvars copy csv ctypes dataclasses
    datetime decimal difflib dis doctest enum errno fractions functools gc getopt graphlib gzip
    hashlib heapq hmac html html.parser inspect io itertools json keyword locale logging lzma math
    numbers operator os.path pathlib pickle pprint queue random re reprlib sched secrets shlex
    signal sqlite3 statistics string struct sys textwrap threading time timeit traceback types
    typing unicodedata unittest urllib.parse uuid warnings weakref zlib _strptime"""
_CODECS = """\
    ascii latin-1 iso8859-15 utf-7 utf-8 utf-8-sig utf-16 utf-16-le utf-16-be utf-32 utf-32-le
    utf-32-be cp437 cp1251 cp1252 koi8-r hex base64 rot13 quopri zlib unicode_escape
    raw_unicode_escape punycode idna"""

_CONTROL, _DEV_NULL, _CONNECTION, _PEER = 0, 1, 3, 4  # file descriptors; the last two in a box
END, DROP = b"end", b"drop"


def main(source_root: str, setup: str = "") -> None:
    """Obey the parent until it is gone.

    setup: JSON text for boxes that grade with a dataset of reasoning-gym (gym.py), or "".

    `end` and `drop` kill all boxes, `end` says how they ended; any other message is the limits of a
    new box and comes with its connection, and perhaps one to another box.
    """
    parent = os.getppid()
    control = socket.socket(fileno=_CONTROL)
    sys.path.remove(source_root)
    if setup:
        gym.prepare(json.loads(setup))
    _import_for_programs()
    control.send(READY)
    boxes: list[int] = []
    dying: list[int] = []
    waiting = select.poll()
    waiting.register(control, select.POLLIN)
    while True:
        dying = [box for box in dying if os.waitpid(box, os.WNOHANG) == (0, 0)]
        # A parent that was killed closes its end, but a process it had forked may still hold it.
        if not waiting.poll(1000):
            if os.getppid() != parent:
                break
            continue
        message, descriptors, _, _ = socket.recv_fds(control, 4096, 2)
        if not message:
            break
        if message == DROP:
            for box in boxes:
                os.kill(box, signal.SIGKILL)
            dying += boxes
            boxes.clear()
        elif message == END:
            control.send(json.dumps([_ended(box) for box in boxes]).encode())
            boxes.clear()
        else:
            boxes.append(_forked(descriptors, json.loads(message)))
    for box in boxes:
        _ended(box)


def _import_for_programs() -> None:
    for name in _IMPORTABLE.split():
        with suppress(ImportError):  # a Python built without it
            importlib.import_module(name)
    for name in _CODECS.split():
        codecs.lookup(name)
    sys.path.clear()
    sys.path_importer_cache.clear()
    gc.collect()
    gc.freeze()  # a collection in a box would otherwise copy every page that is shared with it
    gc.disable()


def _ended(box: int) -> dict[str, Any]:
    """Kill a box; return its wait status and the processor seconds it took."""
    os.kill(box, signal.SIGKILL)
    _, status, used = os.wait4(box, 0)
    return {"status": status, "cpu_s": used.ru_utime + used.ru_stime}


def _forked(descriptors: list[int], limits: dict[str, int]) -> int:
    zygote = os.getpid()
    box = os.fork()
    if box == 0:
        _live_in_a_box(descriptors, zygote, limits)
    for descriptor in descriptors:
        os.close(descriptor)
    return box


def _live_in_a_box(descriptors: list[int], zygote: int, limits: dict[str, int]) -> NoReturn:
    """Do in a new box what its first message asks for. Standard input and output are /dev/null.

    It needs no session and no process group of its own: it can have no children to be killed with.
    """
    try:
        os.dup2(_DEV_NULL, _CONTROL)
        assert descriptors == [_CONNECTION, _PEER][: len(descriptors)]  # the zygote has no others
        channel = Answering(_CONNECTION)
        try:
            confine(parent_pid=zygote, **limits)
        except OSError as error:
            channel.send(str(error.strerror).encode())
            os._exit(1)
        channel.send(READY)
        gc.enable()
        _serve(channel)
    finally:
        os._exit(0)


def _serve(channel: Answering) -> None:
    match json.loads(channel.receive()):
        case {"tests": _} as request:
            judge(request, channel, Asking(_PEER))
        case {"program": _} as request:
            serve_program(request, channel)
        case {"entry": _, "answer": _} as request:
            gym.grade(request, channel)
        case {"schema": schema, "query": query}:
            select_rows(schema, query, channel)
        case _:
            raise ValueError("unknown request")
