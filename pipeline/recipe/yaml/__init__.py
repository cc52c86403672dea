"""YAML as recipes are written in it, with the place of every key and value."""
