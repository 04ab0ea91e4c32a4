"""Five layers for each question, against five at random and the same five for all."""
