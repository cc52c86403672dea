"""Recipes as files: read, checked, described; and what is known of their models without torch."""
