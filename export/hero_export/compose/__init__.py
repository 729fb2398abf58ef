"""Composes HERO checkpoints from public ones, initialised as in the paper before training."""

from hero_export.compose.compose import Sources, compose
from hero_export.compose.report import Report

__all__ = ["Report", "Sources", "compose"]
