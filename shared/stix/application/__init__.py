"""Use cases, one module a verb. They see the world only through the ports."""
