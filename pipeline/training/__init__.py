"""Drives an upstream Trainer so that a stage can be killed, resumed, stopped and watched.

Not a trainer: the loop is transformers' own.
"""
