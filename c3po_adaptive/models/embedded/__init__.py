"""The embedded model: its trained tensors, its card, and how it is put together."""
