"""What TRL's trainers compute, for our own to be compared with; nothing here uses our code.

Its last PPOTrainer (1.12.0): case.py says of what, derive.py asks TRL, trl_1_12.npz is what it
said; tests/unit/rl/test_oracle.py compares. The GRPOTrainer and RLOOTrainer that are installed:
live.py asks them in the test's own process; tests/unit/rl/test_trl_oracle.py compares.
"""
