"""`posttrain adopt`: registers a model that was trained elsewhere as the result of a stage."""

import time
from pathlib import Path

from pipeline.errors import PosttrainError
from pipeline.files.names import CONFIG, TOKENIZER
from pipeline.model_files.folder import check_folder
from pipeline.plan.plan import Plan
from pipeline.stages import stage_of
from pipeline.stages.adopt import copy_model
from pipeline.store.store import Artifact, Store


def adopt(plan: Plan, store: Store, name: str, folder: Path) -> Artifact:
    """Publish a copy of `folder` under the stage's fingerprint, marked as adopted and not exact.

    The stage then counts as done; what follows is built on it. The headers of its weights are
    looked at; their numbers are when the next stage loads them.
    """
    planned = plan.stage(name)
    produces = stage_of(planned.kind).produces
    where = str(folder)
    if produces not in ("policy", "tokenizer"):
        raise PosttrainError(where, f"`{name}` makes neither a model nor a tokenizer")
    if planned.artifact is not None:
        raise PosttrainError(
            where,
            f"`{name}` is there already ({planned.artifact.path})",
            "remove that folder first",
        )
    check_folder(folder)
    needed = TOKENIZER if produces == "tokenizer" else CONFIG
    if not (folder / needed).is_file():
        raise PosttrainError(where, f"has no {needed}", "give the folder of a saved model")
    with store.lock(planned.kind, planned.fingerprint):
        working = store.working(planned.kind, planned.fingerprint)
        working.start_over()
        copy_model(folder, working.out, needs_weights=produces == "policy")
        return store.publish(
            working,
            record={
                "name": name,
                "kind": planned.kind,
                "produces": produces,
                "fingerprint": planned.fingerprint,
                "identity": planned.identity,
                "inputs": {needed: plan.stage(needed).fingerprint for needed in planned.inputs},
                "properties": {"adopted_from": where},
                "metrics": {},
                "provenance": {
                    "because": f"adopted from {where}",
                    "seconds": 0.0,
                    "finished": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
                    "exact": False,
                },
            },
        )
