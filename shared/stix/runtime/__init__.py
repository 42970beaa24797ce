"""Settings, schedules, logging and the composition root of the control plane."""
