"""How models are measured: on tasks, on texts, on prompts; config/measuring_stage.py says which."""
