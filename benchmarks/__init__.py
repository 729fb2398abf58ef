"""Compares engines with the eager baseline. Every result is verified before it is timed."""
