"""One module or package per provider, behind ``stix.ports.compute``; its SDK is imported inside it only."""
