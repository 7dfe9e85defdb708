"""The settings of a node: one table, and what reads it from options, environment and file."""
