"""The command line: flags here, logic below. One thin module a verb."""
