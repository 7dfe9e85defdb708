"""The interfaces of a node for operators and their tools."""
