"""The doctor: what a site offers, on login and compute nodes, with a fix for each gap."""
