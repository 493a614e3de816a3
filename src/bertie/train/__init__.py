"""Splits become a checkpoint. The only package, beside export, that imports PyTorch."""
