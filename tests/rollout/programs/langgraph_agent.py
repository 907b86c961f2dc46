"""LangGraph's ReAct agent, with the tools of the environment."""

import asyncio
import os
import sys

from langchain.agents import create_agent
from langchain_mcp_adapters.client import MultiServerMCPClient
from langchain_openai import ChatOpenAI


async def main() -> None:
    server = {"transport": "streamable_http", "url": os.environ["AWORLD_MCP_URL"]}
    tools = await MultiServerMCPClient({"aworld": server}).get_tools()
    agent = create_agent(ChatOpenAI(model="policy"), tools, system_prompt="Use tools, then answer.")
    end = await agent.ainvoke({"messages": [("user", sys.stdin.read())]})
    print(end["messages"][-1].text)


asyncio.run(main())
