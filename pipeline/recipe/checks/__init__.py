"""What can be known to be wrong with a stage before it runs, a file per kind of stage."""
