"""The keys of a recipe: blocks, types and limits of their values, and what a stage is."""
