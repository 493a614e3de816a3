"""Exports for other tools: what each target writes, and how it is read back and compared before it is kept."""
