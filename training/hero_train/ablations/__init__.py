"""The paper's ablations at a small scale (Tables 4, 5 and 7), and the learned blends (Fig. 7)."""
