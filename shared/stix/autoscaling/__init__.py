"""How many replicas a service has, in which market and where: pure policies, no I/O, no clock."""
