"""The HTTP server: metrics, the page, /api/v1, and access control."""
