"""Instances: objects with ids of their own, from what was predicted, block by block."""
