"""Re-mixing: from prefilled questions and their neighbours to answers along another pathway."""
