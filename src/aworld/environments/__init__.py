"""Environments: sandboxes, the MCP toolbox, the pool of warm slots, and the cache of the web."""
