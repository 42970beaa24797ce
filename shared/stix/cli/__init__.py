"""The ``stix`` command. Each subcommand is a module that loads when it is called."""
