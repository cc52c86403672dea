"""Documents in kept files are those that are mixed anew."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from pipeline.config.blocks import DataBlock
from pipeline.config.keeping import Keeping
from pipeline.config.references import Places
from pipeline.data.documents import id_type
from pipeline.data.kept_documents import mix_kept
from pipeline.data.training_sources import token_sources
from tests.small_folders import small_tokenizer


def _mix(folder: Path, keeping: Keeping | None, *, tokens: int = 3_000, seed: int = 5) -> Any:
    blocks = [
        DataBlock.model_validate({"file": "a.jsonl", "weight": 2}),
        DataBlock.model_validate({"task": "facts"}),
    ]
    tokenizer = small_tokenizer()
    documents, shares = mix_kept(
        token_sources(blocks, Places(folder), tokenizer, seed=seed),
        tokenizer,
        tokens=tokens,
        seed=seed,
        dtype=id_type(len(tokenizer)),
        keeping=keeping,
        screen=None,
        on_progress=lambda _: None,
        on_wait=lambda: None,
    )
    return [ids.tolist() for ids in documents], documents.tokens.dtype, shares


def test_kept_documents_are_those_mixed_anew_and_are_mixed_once(tmp_path: Path):
    rows = [json.dumps({"text": f"document {n} " * (n % 9 + 1)}) for n in range(20)]
    (tmp_path / "a.jsonl").write_text("\n".join(rows))
    keeping = Keeping(tmp_path / "runs/store/.encoded", {"of": "these"})
    anew = _mix(tmp_path, None)
    others = [_mix(tmp_path, None, seed=6), _mix(tmp_path, None, tokens=2_000)]
    assert _mix(tmp_path, keeping) == anew
    assert _mix(tmp_path, keeping, seed=6) == others[0] != anew
    assert _mix(tmp_path, keeping, tokens=2_000) == others[1]
    (tmp_path / "a.jsonl").write_text('{"text": "another"}')
    assert _mix(tmp_path, keeping) == anew
    assert _mix(tmp_path, replace(keeping, reads={"of": "another"})) != anew
    assert anew[1] == np.uint16
