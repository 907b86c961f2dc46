"""Rounds and evaluations in the formats of other trainers, and of inspect's viewer."""
