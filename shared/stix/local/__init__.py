"""The embedded control plane: the deployed handlers and state machines in one process over SQLite."""
