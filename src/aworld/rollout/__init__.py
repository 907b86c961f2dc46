"""Rollout: workloads, claims, players, and the worker that plays them."""
