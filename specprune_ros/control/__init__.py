"""From action chunks to commands: the control loop, the time-indexed executor and the limits."""
