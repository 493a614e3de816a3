"""A Classifier becomes an HTTP endpoint."""
