"""What a node offers to operators and their tools."""
