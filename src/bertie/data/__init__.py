"""A file of labelled texts becomes checked examples, and these become splits."""
