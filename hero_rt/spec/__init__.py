"""What a checkpoint, a profile and a submodule are, as data. Nothing here loads a network."""
