"""The environment that libraries read when they are imported, as this project wants it.

Only defaults: what the user has set stays. No library is imported here.
"""

import logging
import os
import warnings
from collections.abc import Mapping

DEFAULTS: Mapping[str, str] = {
    # libgomp spins for milliseconds by default: on busy cores that costs three times the time.
    "GOMP_SPINCOUNT": "20000",
    "HF_HUB_DISABLE_TELEMETRY": "1",
    "HF_DATASETS_DISABLE_PROGRESS_BARS": "1",
    "TOKENIZERS_PARALLELISM": "false",
    "TQDM_DISABLE": "1",  # bars of libraries; ours are not tqdm's
    "TRANSFORMERS_VERBOSITY": "warning",
}
# PEFT and TRL still read this name of transformers'.
_BETWEEN_LIBRARIES = ("`is_gradient_checkpointing` is deprecated",)
# It misses the package `kernels`, whether weights are in 4 bits or not.
_TALKATIVE = ("bitsandbytes.backends.cpu.ops",)


def set_environment() -> None:
    """Set what the user has not set, before any library reads it; child processes inherit it."""
    for name, value in DEFAULTS.items():
        os.environ.setdefault(name, value)


def ignore_talk_between_libraries() -> None:
    """Pass over warnings by which one library tells another one what nobody else can mend."""
    for message in _BETWEEN_LIBRARIES:
        warnings.filterwarnings("ignore", message=message, category=FutureWarning)
    for name in _TALKATIVE:
        logging.getLogger(name).setLevel(logging.ERROR)
