"""What TRL's last PPOTrainer (1.12.0) computed, for our own to be compared with.

case.py says of what, derive.py asks TRL, trl_1_12.npz is what it said. Nothing here computes with
our code: that is tests/unit/rl/test_oracle.py.
"""
