"""What it costs to verify a finished stage: at a look, and with every byte read.

The ratio is the time allowed for a look over the time taken: `plan` and cached stages look, and a
look reads artifact.json and no other file. Whoever uses a result has all of it hashed, at
`hashed_gigabytes_per_s` of one core.
"""

import os
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from pipeline.store.fingerprint import fingerprint
from pipeline.store.store import Store, verify
from tests.benchmarks.result import Result

_FILES = 11  # beside the weights: config, tokenizer, template, metrics, log
_WEIGHTS_BYTES = 256 << 20
_GOAL_S = 0.005


def verification_seconds() -> Result:
    """Time looks at an artifact of 256 MiB, and its verification."""
    with tempfile.TemporaryDirectory() as folder:
        store, identity = Store(Path(folder)), {"stage": "sft"}
        key = fingerprint(identity)
        with store.lock("sft", key):
            working = store.working("sft", key)
            working.start_over()
            (working.out / "model.safetensors").write_bytes(os.urandom(1 << 20) * 256)
            for number in range(_FILES):
                (working.out / f"{number}.json").write_text("{}" * 1000)
            record = {"name": "sft", "kind": "sft", "produces": "policy", "fingerprint": key}
            record |= {"identity": identity, "inputs": {}, "properties": {}, "metrics": {}}
            artifact = store.publish(working, record={**record, "provenance": {}})
        time.sleep(2.1)  # files that have just been written are not recorded as hashed
        first_s = _fastest(lambda: store.find("sft", key), repeats=1)
        look_s = _fastest(lambda: store.find("sft", key), repeats=50)
        verify_s = _fastest(lambda: verify(artifact), repeats=3)
    details = {
        "look_milliseconds": round(1000 * look_s, 2),
        "first_look_milliseconds": round(1000 * first_s, 1),
        "verify_milliseconds": round(1000 * verify_s, 1),
        "hashed_gigabytes_per_s": round(_WEIGHTS_BYTES / verify_s / 1e9, 2),
        "megabytes": _WEIGHTS_BYTES >> 20,
    }
    return Result("verification_seconds", _GOAL_S / look_s, 1.0, details)


def _fastest(run: Callable[[], object], *, repeats: int) -> float:
    """Return the seconds of the fastest of several runs."""
    taken: list[float] = []
    for _ in range(repeats):
        start = time.perf_counter()
        run()
        taken.append(time.perf_counter() - start)
    return min(taken)
