"""Drives the data server beside a member: freezes it, promotes it, has it follow the primary's."""
