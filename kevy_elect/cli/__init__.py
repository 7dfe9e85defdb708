"""The command `kevy-elect`."""
