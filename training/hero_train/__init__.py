"""Trains HERO by the paper's recipe, and hero-tiny by a small recipe."""
