"""Model folders and chat templates as files: what bytes alone tell, without torch."""
