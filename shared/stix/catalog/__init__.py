"""Prices of machines on every cloud: fetching them, compiling them into one index, asking it."""
