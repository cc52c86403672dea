"""What files are called: in an artifact, a checkpoint, a run's folder and a model's folder.

Whoever writes one and whoever reads it take its name from here. Names that only one file of this
project uses stay in that file.
"""

# An artifact is whole when this is in it: what it is, how it was made, and every file's sha256.
ARTIFACT = "artifact.json"
METRICS = "metrics.jsonl"  # of training: a line per logged step
LOG = "log.txt"  # what libraries said while the stage ran
HELD_OUT = "held_out.json"  # how well held-out rows are ranked: reward_model, dpo, kto
SAMPLES = "samples.jsonl"  # responses before and after training (dpo, kto), or step by step (ppo)
BEST_OF_N = "best_of_n.json"  # ppo
VALUE_HEAD = "value_head.safetensors"  # of a saved critic: ppo
ITEMS = "items.jsonl"  # a line per test item and model: evaluate, compare
COMPARISON = "comparison.json"  # compare
ROWS = "rows.jsonl"  # what a stage that makes rows made: generate, label, best_of_n
ROWS_SUMMARY = "rows.json"  # what is in them: counts, columns, a histogram of scores, a few rows
PAIRS = "pairs.json"  # how reward models rank pairs: evaluate, compare
OVERLAPS = "overlaps.jsonl"  # training rows that share text with test items

EXPORTED = "posttrain.json"  # in an export, in place of it: how the model or the rows were made

# A checkpoint is whole when this is in it.
MANIFEST = "MANIFEST.json"
ATTEMPT = "attempt.json"  # beside the output of a stage that is not finished: how far it is

# In a run's folder.
RECORD = "run.json"  # the stages of the run and their artifacts
REPORT = "report.html"

# A model's, named as transformers, tokenizers and PEFT name them.
CONFIG = "config.json"
GENERATION = "generation_config.json"
WEIGHTS = "model.safetensors"
ADAPTER_CONFIG = "adapter_config.json"
ADAPTER_WEIGHTS = "adapter_model.safetensors"
TOKENIZER = "tokenizer.json"
TOKENIZER_CONFIG = "tokenizer_config.json"
