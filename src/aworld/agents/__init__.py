"""Agents: the agent loop, the token-exact chat format, teams, and models behind endpoints."""
