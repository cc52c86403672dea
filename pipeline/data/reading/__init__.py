"""From files, the hub and tasks to checked records, in the forms that stages read."""
