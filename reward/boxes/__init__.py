"""Boxes: confined processes in which untrusted programs run. reward/sandbox.py is the way in."""
