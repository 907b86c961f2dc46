"""Code that several tool servers share."""
