"""Composes HERO checkpoints from public ones, initialised as in the paper before training."""
