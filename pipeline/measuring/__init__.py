"""Models measured: asked tasks, read texts, given prompts; recipe/measuring.py says which."""
