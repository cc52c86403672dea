"""Messages between boxes and those who ask them, as a box sees them. The parent's side: pool.py.

A message is its length in four bytes and its bytes. It begins with a nonce, and so does the answer
to it: what a program writes beforehand answers nothing.
"""

import os
import struct

LENGTH = struct.Struct("!I")
NONCE_BYTES = 16
MAX_MESSAGE_BYTES = 1 << 20

READY = b"ready"  # the first thing a box says, or a sentence that says why it cannot be locked in
BROKEN = "Broken"  # what a reply says was raised if not the program is at fault


class Ended(BaseException):
    """The other end is closed. No Exception: code under test must not catch it."""


class Answering:
    """The end of the connection that is asked."""

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor
        self._nonce = b""

    def send(self, message: bytes) -> None:
        """Answer the message that was received last."""
        _write(self._descriptor, self._nonce + message)

    def receive(self) -> bytes:
        """Wait for the next message and return it without its nonce. Raises Ended."""
        message = _read_message(self._descriptor)
        self._nonce = message[:NONCE_BYTES]
        return message[NONCE_BYTES:]


class Asking:
    """The end of the connection that asks."""

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor

    def hello(self) -> bytes:
        """Wait for the first thing the other box says; "" if it ends before."""
        try:
            return _read_message(self._descriptor)
        except Ended:
            return b""

    def ask(self, message: bytes) -> bytes:
        """Send a message and return the answer. Raises Ended, and ValueError for something else."""
        nonce = os.urandom(NONCE_BYTES)
        _write(self._descriptor, nonce + message)
        answer = _read_message(self._descriptor)
        if not answer.startswith(nonce):
            raise ValueError("it wrote something that is no answer")
        return answer[NONCE_BYTES:]


def _write(descriptor: int, message: bytes) -> None:
    rest = memoryview(LENGTH.pack(len(message)) + message)
    try:
        while rest:
            rest = rest[os.write(descriptor, rest) :]
    except (BrokenPipeError, ConnectionResetError) as error:
        raise Ended from error


def _read_message(descriptor: int) -> bytes:
    (length,) = LENGTH.unpack(_read(descriptor, LENGTH.size))
    return _read(descriptor, length)


def _read(descriptor: int, size: int) -> bytes:
    content = bytearray()
    while len(content) < size:
        try:
            part = os.read(descriptor, size - len(content))
        except ConnectionResetError as error:
            raise Ended from error
        if not part:
            raise Ended
        content += part
    return bytes(content)
