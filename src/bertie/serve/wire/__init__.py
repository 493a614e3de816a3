"""What clients send and what they get, a module for each contract. Knows no model and no socket."""
