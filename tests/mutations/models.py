"""Promises about models of every architecture."""

from tests.mutations.mutation import Mutation

MODELS = [
    Mutation(
        "padding stands before a whole row, never within it",
        "eval/asking/decoding.py",
        "len(whole), paddings=paddings)",
        "len(whole))",
        ("tests/unit/eval/asking/test_prefix.py",),
    ),
    Mutation(
        "a model that keeps a state is sampled from as it predicts",
        "eval/asking/decoding.py",
        "mask[:, -ids.shape[-1] :] if self.kept_as == _STATE else mask",
        "mask",
        ("tests/matrix/test_matrix.py",),
    ),
    Mutation(
        "options of one question do not see each other",
        "eval/asking/one_line.py",
        "self._mask[end:, start:end] = -torch.inf",
        "pass",
        ("tests/unit/eval/asking/test_rows_in_one_line.py",),
    ),
    Mutation(
        "a layer that attends within a window is left to the model",
        "eval/asking/plain_layers.py",
        " and _sees_all(module)",
        "",
        ("tests/unit/eval/asking/test_rows_in_one_line.py",),
    ),
    Mutation(
        "a row's first token counts in no mean loss",
        "pipeline/data/encoding/padding.py",
        "torch.cat([torch.tensor([IGNORED]), ids[1:]])",
        "ids",
        ("tests/matrix/test_matrix.py",),
    ),
    Mutation(
        "a mixture of experts trains without its router's loss unless asked",
        "pipeline/config/training_args.py",
        '{"router_aux_loss_coef": 0.0}',
        '{"router_aux_loss_coef": 0.01}',
        ("tests/matrix/test_matrix.py",),
    ),
    Mutation(
        "dropout is off in DPO wherever a network reads its rate",
        "pipeline/stages/dpo.py",
        "turn_off_dropout(module, saved=[module])",
        "pass",
        ("tests/matrix/test_matrix.py",),
    ),
    Mutation(
        "a reward model without a scalar head is refused by plan",
        "pipeline/recipe/checks/training.py",
        "    check_scalar_head(recipe, name, config)\n",
        "",
        ("tests/unit/recipe/checks/test_reward_checks.py",),
    ),
]
