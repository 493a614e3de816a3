"""How fast a bundle answers on this machine, and what that costs. Measured in processes of their own."""
