"""Months of the daemon in minutes: the real services against the real simulated venue, on a clock that jumps."""
