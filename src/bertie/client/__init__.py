"""Asks a server of Bertie's, as if its model were here."""
