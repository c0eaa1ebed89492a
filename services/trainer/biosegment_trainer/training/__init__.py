"""Training: jobs, checkpoints, options, and what runs inside of a worker."""
