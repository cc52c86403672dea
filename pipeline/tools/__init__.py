"""A recipe's tools: loaded, described to the model, and tied to its chat template.

formats.py chooses how a template's calls are read, use.py puts all together. What a tool is, and
what becomes of its calls, is eval/tools.
"""
