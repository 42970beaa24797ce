"""One module per technology behind a port. Nothing here decides anything."""
