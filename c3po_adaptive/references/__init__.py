"""Reference sets: labeled questions run along the model's own pathway, and what is stored of each."""
