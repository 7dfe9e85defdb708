"""Simulated data servers, their drivers, and the promises about the data that clients write."""
