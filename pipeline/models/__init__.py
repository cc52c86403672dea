"""Models: loaded, made new, given a scalar head, asked, saved."""
