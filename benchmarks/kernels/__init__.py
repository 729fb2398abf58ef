"""One module an operator of hero_kernels."""
