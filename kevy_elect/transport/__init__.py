"""Bytes and connections: framing, the links to the peers, and the listener."""
