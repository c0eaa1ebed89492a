"""The sampler of BioSegment: what to annotate next, who annotates it, and when to train."""
