"""The paths that clients know, a module for each contract."""
