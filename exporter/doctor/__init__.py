"""Finds out why a battery cannot be read: checks of the machine, then of each battery."""
