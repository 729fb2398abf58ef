"""What is timed against what: engine sets by name, the two baselines first."""

from benchmarks.contenders.names import BASELINE, UNCACHED, contender_names, open_contender

__all__ = ["BASELINE", "UNCACHED", "contender_names", "open_contender"]
