"""Models as versions: their records, and their bundles as files."""
