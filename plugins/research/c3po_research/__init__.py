"""Strategies of ours, tried and kept with what came of it; each file is a plugin, by an entry point of its own."""
