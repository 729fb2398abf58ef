"""Runs the paper's ablations at a small scale (Tables 4, 5, 7), and plots the learned blends (Fig. 7)."""
