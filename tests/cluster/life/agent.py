"""An agent program without any package: it asks the policy, runs the tools that it calls, and prints the last reply."""

import json
import os
import sys
import urllib.request
from typing import Any


def post(url: str, body: dict[str, Any]) -> Any:
    headers = {
        "Authorization": f"Bearer {os.environ['OPENAI_API_KEY']}",
        "Content-Type": "application/json",
        "Accept": "application/json, text/event-stream",
    }
    with urllib.request.urlopen(urllib.request.Request(url, json.dumps(body).encode(), headers)) as reply:
        lines = reply.read().decode()
    data = [line.removeprefix("data:") for line in lines.splitlines() if line.startswith("data:")]
    return json.loads(data[-1] if data else lines)


def mcp(method: str, **parameters: Any) -> Any:
    """The result of a method of the environment's MCP server."""
    request = {"jsonrpc": "2.0", "id": 1, "method": method, "params": parameters}
    return post(os.environ["AWORLD_MCP_URL"], request)["result"]


def main() -> None:
    tools = [
        {
            "type": "function",
            "function": {"name": t["name"], "description": t["description"], "parameters": t["inputSchema"]},
        }
        for t in mcp("tools/list")["tools"]
    ]
    messages = [
        {"role": "system", "content": "Use tools, then answer."},
        {"role": "user", "content": sys.stdin.read()},
    ]
    while True:
        body = {"model": "policy", "messages": messages, "tools": tools}
        message = post(f"{os.environ['OPENAI_BASE_URL']}/chat/completions", body)["choices"][0]["message"]
        messages.append(message)
        if not message.get("tool_calls"):
            break
        for call in message["tool_calls"]:
            asked = call["function"]
            seen = mcp("tools/call", name=asked["name"], arguments=json.loads(asked["arguments"]))
            text = "".join(part["text"] for part in seen["content"])
            messages.append({"role": "tool", "tool_call_id": call["id"], "content": text})
    print(message["content"])


main()
