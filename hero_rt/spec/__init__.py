"""Defines checkpoints, profiles and submodules as data. Nothing here loads a network."""
