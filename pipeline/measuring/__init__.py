"""Models measured: asked tasks, read texts, given prompts; config/measuring.py says which."""
