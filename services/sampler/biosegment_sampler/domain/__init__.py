"""Rules of pools, samples, leases and selection: pure, no I/O."""
