"""`kevy-elect demo --redis`: real servers and the nodes that drive them, while somebody writes."""
