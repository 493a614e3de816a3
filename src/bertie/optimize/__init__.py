"""A model becomes faster variants of itself, and a contract says which of them still predict the same."""
