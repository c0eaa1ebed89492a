"""Is it worth choosing what to annotate? Strategies against random choice, in the loop of the platform.

What is in the loop are the sampler's own strategies and selection and the trainer's own learning core; the annotator
is simulated by the truth of the pool. See docs/benchmarks/active-learning.md.
"""
