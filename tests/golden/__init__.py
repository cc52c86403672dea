"""What must not change unnoticed: files written by `make golden`, compared by tests."""
