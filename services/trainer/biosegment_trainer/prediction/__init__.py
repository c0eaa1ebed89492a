"""Prediction and scoring: jobs, blocks, and what runs inside of a worker."""
