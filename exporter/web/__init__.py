"""What is served over HTTP: metrics, the page, /api/v1, and who may ask for them."""
