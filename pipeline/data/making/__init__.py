"""Rows that stages make: kept piece by piece, chosen from by their scores, written, described."""
