"""`sweep:` of a stage: read from a recipe's document, and written out as stages of their own."""
