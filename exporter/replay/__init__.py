"""Runs recorded sessions through the code that reads real batteries."""
