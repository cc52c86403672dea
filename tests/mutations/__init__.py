"""Promises of the documentation, each with a line that is broken on purpose to see a test fail."""
