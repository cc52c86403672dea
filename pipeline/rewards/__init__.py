"""What a rollout's responses earn, for any trainer that learns from rewards. Knows no trainer."""
