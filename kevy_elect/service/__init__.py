"""The election as a Twisted service, and the observers of its changes."""
