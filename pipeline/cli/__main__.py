"""`python -m pipeline.cli` is `posttrain`."""

from pipeline.cli import main

main()
