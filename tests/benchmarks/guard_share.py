"""Which share of a training the guards take that look at each rollout for signs of reward hacking.

The ratio is the share allowed over the share taken, both of processor time within one run. The
model is the tiniest there is, so that the rest of the training is as short as can be.
"""

import tempfile
import time
from pathlib import Path
from typing import Any

import scipy.stats  # noqa: F401  loaded once a run, which is no part of a rollout
import torch
from transformers import PrinterCallback

from tests.benchmarks.result import Result
from tests.hacked_rewards import HACKS, trainer_of

_SHARE = 0.01
_ROLLOUTS = 20


def guard_share() -> Result:
    """Time the guards within a training whose reward is for long responses."""
    torch.set_num_threads(1)
    (hack,) = [hack for hack in HACKS if hack.sign == "length"]
    with tempfile.TemporaryDirectory() as folder:
        trainer = trainer_of(hack, "grpo", 0, Path(folder), rollouts=_ROLLOUTS)
        trainer.remove_callback(PrinterCallback)
        guarding: Any = trainer._guarding
        right, taken_s = guarding.look, list[float]()

        def timed(*args: Any) -> dict[str, float]:
            begin_s = time.process_time()
            found = right(*args)
            taken_s.append(time.process_time() - begin_s)
            return found

        guarding.look = timed
        begin_s = time.process_time()
        trainer.train()
        whole_s = time.process_time() - begin_s
    share = sum(taken_s) / whole_s
    details = {
        "share": round(share, 5),
        "milliseconds_a_rollout": round(1000 * sum(taken_s) / len(taken_s), 2),
        "rollout_milliseconds": round(1000 * whole_s / _ROLLOUTS, 1),
        "responses_a_rollout": 32,
    }
    return Result("guard_share", _SHARE / share, 1.0, details, len(taken_s) == _ROLLOUTS)
