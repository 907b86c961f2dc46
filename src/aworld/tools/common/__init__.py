"""What several tool servers use."""
