"""Pure policies of pools: how many workers there are to be, which go, and which job gets which."""
