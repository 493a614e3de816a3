"""The version, in one place: read by the build, by `bertie --version` and by every manifest."""

__version__ = "0.1.0"
