"""Simulated data servers, their drivers, and what must hold of what clients wrote."""
