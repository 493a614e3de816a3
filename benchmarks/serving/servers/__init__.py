"""The peers' servers, each run in an environment of its own that has no Bertie; so they import nothing of it."""
