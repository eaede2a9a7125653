"""Recordings of sessions: JSON lines without addresses, passwords and serial numbers."""
