"""Bytes to facts and back, without I/O: imports only `errors` and `reading`."""
