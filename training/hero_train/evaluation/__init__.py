"""Measures the outpainted region, and compares it with methods that need no model."""
