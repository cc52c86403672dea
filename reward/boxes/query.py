"""Inside a box: runs one untrusted SELECT on a SQLite database in memory and replies with its rows.

The database may be read and nothing else: no other statement, file, extension or setting.
"""

import json
import sqlite3

from reward.boxes import values
from reward.boxes.channel import BROKEN, Answering
from reward.boxes.program import limited, raised

_READING = (
    sqlite3.SQLITE_SELECT,
    sqlite3.SQLITE_READ,
    sqlite3.SQLITE_FUNCTION,
    sqlite3.SQLITE_RECURSIVE,
)


def select(schema: str, query: str, channel: Answering) -> None:
    """Reply with the rows as a list of tuples, or with what was raised."""
    connection = sqlite3.connect(":memory:")
    try:
        connection.executescript(f"PRAGMA temp_store = MEMORY; {schema}")
    except (sqlite3.Error, sqlite3.Warning) as error:
        reason = f"the schema cannot be set up: {error}"
        channel.send(json.dumps({"raised": [BROKEN, reason]}).encode())
        return
    connection.set_authorizer(_authorised)
    try:
        rows = connection.execute(query).fetchall()
        reply = limited(json.dumps({"value": values.encode(rows, values.not_plain)}).encode())
    except (sqlite3.Error, sqlite3.Warning, MemoryError, ValueError) as error:
        reply = raised(error)
    channel.send(reply)


def _authorised(action: int, *_about: str | None) -> int:
    return sqlite3.SQLITE_OK if action in _READING else sqlite3.SQLITE_DENY
