"""Pictures of what the pruning kept."""
