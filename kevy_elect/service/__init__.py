"""The election as a Twisted service, and those who are told of its changes."""
