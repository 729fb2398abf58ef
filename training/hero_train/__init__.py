"""Training HERO: the paper's recipe, and the small recipe that made the checkpoint in hero_rt/checkpoints/hero-tiny."""
