"""The JBD protocol without I/O: bytes in, facts out; imports only `errors` and `reading`."""
