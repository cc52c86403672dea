"""Models: made, loaded, put behind a chat template or an adapter, given a scalar head, saved."""
