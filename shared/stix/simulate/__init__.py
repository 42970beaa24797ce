"""Replays of recorded spot availability through the policies of ``stix.recovery``."""
