"""Verifiers: a response and a reference in, a Verdict out, one kind of answer per file.

There is no registry: a task (eval/tasks/) calls the verifier that it needs.
"""
