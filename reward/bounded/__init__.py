"""A process that grades what may take forever: algebra, patterns of users, schemas."""
