"""`kevy-elect demo --redis`: real servers, the nodes that drive them, and a client that writes."""
