"""Models measured: asked tasks, read texts, given prompts; config/measuring_stage.py says which."""
