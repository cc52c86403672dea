"""From checked records to token ids and labels: rows, pairs, prompts, passages."""
