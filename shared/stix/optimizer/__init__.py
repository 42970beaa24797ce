"""Which offers fit a request, and in which order to try them. Pure."""
