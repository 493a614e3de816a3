"""The parts of `benchmarks/infer.py`. Those that peers' environments run import nothing of Bertie's."""
