"""smolagents' tool-calling agent with its own prompt, and with the tools of the environment."""

import os
import sys

from smolagents import MCPClient, OpenAIModel, ToolCallingAgent

url, base, key = (os.environ[name] for name in ("AWORLD_MCP_URL", "OPENAI_BASE_URL", "OPENAI_API_KEY"))
with MCPClient({"url": url, "transport": "streamable-http"}, structured_output=False) as tools:
    model = OpenAIModel("policy", api_base=base, api_key=key)
    print(ToolCallingAgent(tools, model, max_steps=3, verbosity_level=0).run(sys.stdin.read()))
