"""What runs while a node is primary, at a change, or to tell its offset."""
