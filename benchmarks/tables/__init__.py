"""docs/benchmarks.md, made of the records in benchmarks/results."""
