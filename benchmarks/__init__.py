"""Reproducible measurements; each module prints its command, raw samples, and PASS or FAIL per target."""
