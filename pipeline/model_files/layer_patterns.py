"""Regular expressions of a recipe or an adapter, tried out in a process that can be stopped.

A pattern such as `(a+)+b` takes time that doubles with every letter. It is first matched against
the names of a model's layers in a process of its own; upstream gets it only if that process ends.
"""

from __future__ import annotations

import json
import re
import subprocess
import sys
from typing import TYPE_CHECKING, Any, cast

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

LIMIT_S = 2.0
_LARGEST = 10_000  # characters
_PLAIN = re.compile(r"[\w.\\^$-]*")  # nothing in it can be repeated
_PARTS = ("self_attn.q_proj", "self_attn.o_proj", "mlp.gate_proj", "mlp.down_proj")
LAYERS = [f"model.layers.{number}.{part}" for number in range(100) for part in _PARTS]
_TRIAL = """
import json, re, sys
try:
    import resource
    resource.setrlimit(resource.RLIMIT_AS, (1 << 30, 1 << 30))
except (ImportError, ValueError, OSError):
    pass
patterns, names = json.load(sys.stdin)
for pattern in patterns:
    try:
        compiled = re.compile(pattern)
        prefixed = re.compile(rf"(.*\\.)?({pattern})$")
        for name in names:
            compiled.fullmatch(name)
            prefixed.match(name)
    except (re.error, OverflowError, RecursionError, MemoryError) as error:
        print(json.dumps([pattern, str(error) or type(error).__name__]))
        break
"""


def adapter_patterns(fields: Mapping[str, Any]) -> list[str]:
    """Return the fields of a LoraConfig that PEFT reads as patterns."""
    patterns: list[Any] = [
        fields[key]
        for key in ("target_modules", "exclude_modules", "target_parameters")
        if isinstance(fields.get(key), str) and fields[key] != "all-linear"
    ]
    for key in ("layers_pattern", "modules_to_save"):
        value = fields.get(key)
        patterns += value if isinstance(value, list) else [value]
    for key in ("rank_pattern", "alpha_pattern"):
        value = fields.get(key)
        patterns += list(cast("dict[str, Any]", value)) if isinstance(value, dict) else []
    return [pattern for pattern in patterns if isinstance(pattern, str)]


def pattern_problem(patterns: Iterable[str], names: Iterable[str]) -> tuple[str, str] | None:
    """Return (what is wrong, what to do) with the first bad pattern, or None.

    names: what they are matched against. Takes at most LIMIT_S and the start of a process.
    """
    tried = [pattern for pattern in patterns if not _PLAIN.fullmatch(pattern)]
    if not tried:
        return None
    for pattern in tried:
        if len(pattern) > _LARGEST:
            return f"the pattern `{pattern[:30]}...` has {len(pattern)} characters", _HINT
    request = json.dumps([tried, list(names)])
    command = [sys.executable, "-I", "-c", _TRIAL]
    try:
        done = subprocess.run(
            command, input=request, capture_output=True, text=True, timeout=LIMIT_S, check=False
        )
    except subprocess.TimeoutExpired:
        shown = ", ".join(f"`{pattern[:60]}`" for pattern in tried[:3])
        return f"matching {shown} against the names of layers takes over {LIMIT_S:g} s", _HINT
    if done.returncode != 0:
        return f"the pattern `{tried[0][:60]}` cannot be used", _HINT
    if done.stdout:
        pattern, complaint = json.loads(done.stdout)
        return f"`{pattern[:60]}` is no pattern ({complaint})", _HINT
    return None


_HINT = "write the names of the layers as a list, as [q_proj, v_proj]"
