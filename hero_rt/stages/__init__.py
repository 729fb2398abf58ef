"""What is done to one window, as pure functions: prepare, denoise, decode, composite."""
