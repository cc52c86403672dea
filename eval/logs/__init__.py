"""What other evaluation programs logged, read as results of ours; one file a program."""
