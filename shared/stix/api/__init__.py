"""Request and response models of the HTTP API, version by version."""
