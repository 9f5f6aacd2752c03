"""From demonstrations to weights: recording, labels and training."""
