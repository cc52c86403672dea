"""The words of a recipe: blocks, types of values, what each may be, and what a stage is."""
