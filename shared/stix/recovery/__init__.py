"""When a managed job moves, waits or pays for on-demand machines: pure policies, no I/O, no clock."""
