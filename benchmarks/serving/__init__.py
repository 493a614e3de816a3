"""Pieces of `benchmarks/serve.py`: the load generator, the servers, and how much they bear."""
