"""Exports HERO checkpoints to ONNX and builds the engine folders that hero_rt opens."""
