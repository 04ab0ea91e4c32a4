"""Routing inside transformers' models: finding, reading and replacing it, and running only what a pathway changes."""
