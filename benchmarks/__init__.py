"""Benchmarks against the eager baseline: every time verified first, and printed beside the physical limit."""
