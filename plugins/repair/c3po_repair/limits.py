"""How few references are too few, and how often routers are regressed."""

FEWEST = 20
"""References, of which fewer leave too little in a fold."""
ROUNDS = 1
