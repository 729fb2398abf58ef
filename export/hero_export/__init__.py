"""From a HERO checkpoint to ONNX and to folders of engines that hero_rt opens."""
