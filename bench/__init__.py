"""Measurements of kevy_elect beside what others do in the same run; `python -m bench` lists them.

Not part of the package. Everything runs on loopback, and whatever a measurement
starts it also ends.
"""
