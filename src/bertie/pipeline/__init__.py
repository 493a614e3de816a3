"""The stages strung together: what a command of the CLI does, callable from Python."""
