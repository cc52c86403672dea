"""Verifiers: a response and a reference in, a Verdict out, one kind of answer a file."""
