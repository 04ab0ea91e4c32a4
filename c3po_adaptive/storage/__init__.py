"""What is on disk: whole files, hashes of identity, tensors, run folders, the cache."""
