"""Latency, jitter and what the hardware allows: the measurements behind `specprune bench`."""
