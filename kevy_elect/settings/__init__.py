"""The settings of a node: one table, and the readers of options, environment and file."""
