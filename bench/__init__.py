"""Measurements of kevy_elect and of other programs in the same run; `python -m bench` lists them.

They are not part of the package. Everything runs on loopback, and each measurement ends all
processes that it starts.
"""
