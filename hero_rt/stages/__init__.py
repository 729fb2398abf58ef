"""Holds the stages of one window as pure functions: prepare, denoise, decode, composite."""
