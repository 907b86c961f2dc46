"""What a policy is on disk: whole HF folders and deltas between them, their checksums, and a node's own copies."""
