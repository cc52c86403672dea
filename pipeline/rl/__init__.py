"""PPO of our own: language models trained on rewards, with a learned critic."""
