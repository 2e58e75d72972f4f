"""Reading many stores for training."""
