"""What trainers on rollouts may be asked, beside everything that transformers' trainer may be.

base.py: what all methods share. ppo.py, grpo.py, rloo.py, distill.py: one method each, and how its
settings become an Objective (objective.py), by which the engine goes.
"""
