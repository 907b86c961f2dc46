"""The OpenAI Agents SDK, with the tools of the environment."""

import asyncio
import os
import sys

from agents import Agent, OpenAIChatCompletionsModel, Runner, set_tracing_disabled
from agents.mcp import MCPServerStreamableHttp
from openai import AsyncOpenAI


async def main() -> None:
    set_tracing_disabled(True)
    model = OpenAIChatCompletionsModel("policy", AsyncOpenAI())
    async with MCPServerStreamableHttp({"url": os.environ["AWORLD_MCP_URL"]}) as tools:
        agent = Agent("agent", instructions="Use tools, then answer.", mcp_servers=[tools], model=model)
        end = await Runner.run(agent, sys.stdin.read())
    print(end.final_output)


asyncio.run(main())
