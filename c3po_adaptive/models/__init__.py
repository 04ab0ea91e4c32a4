"""Models: loading them, running them along a pathway, what they take, and the embedded one."""
