"""Pretrained encoders, their weights and their preprocessing."""
