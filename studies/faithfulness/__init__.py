"""Which layers matter, and which score finds them."""
