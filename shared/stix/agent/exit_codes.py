"""What an agent's exit code tells the init that started it."""

from __future__ import annotations

EXIT_POWER_OFF = 0
EXIT_RESTART = 3
EXIT_USAGE = 64
EXIT_CONFIG = 65
EXIT_REFUSED = 66
FIRST_FATAL = 64
