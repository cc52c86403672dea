"""Test items among training rows: found, listed, and left out where a recipe says so."""
