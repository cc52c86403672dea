"""What the stages that learn from rewards share: what may be asked, and how it is put together.

A method has a file beside this folder (ppo.py, grpo.py, rloo.py, distill.py); its training is
pipeline/rl/.
"""
