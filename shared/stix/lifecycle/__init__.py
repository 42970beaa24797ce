"""What a cluster needs next. Pure policies."""
