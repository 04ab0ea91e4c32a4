"""What a repair is by default."""

FEWEST = 20
"""References, of which fewer leave too little in a fold."""
ROUNDS = 1
PENALTY = 0.3
"""Of the ridge, over the mean of the diagonal; between 0.1 and 1 it hardly matters."""
