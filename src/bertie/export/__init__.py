"""A checkpoint becomes a bundle. The one place where PyTorch and the runtime meet."""
