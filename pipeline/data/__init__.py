"""Rows and documents, from the files of a recipe to token ids."""
