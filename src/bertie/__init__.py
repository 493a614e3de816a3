"""Bertie."""
