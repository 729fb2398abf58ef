"""How good the outpainted region is, beside what fills it with no model at all."""
