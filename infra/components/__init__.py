"""Each module builds one kind of thing, with the settings that every one of its kind must have."""
