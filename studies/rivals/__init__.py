"""Other papers' methods beside C3PO's side."""
