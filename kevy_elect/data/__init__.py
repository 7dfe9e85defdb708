"""Drives the data server beside a member: freezes it, promotes it, or makes it follow."""
