"""The trainer service: models, and the jobs that train them, predict with them and score with them."""
