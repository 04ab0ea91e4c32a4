"""Routing traces at the command line: record, import, export, show, replay, diff; and their pictures."""
