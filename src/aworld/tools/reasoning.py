"""`reasoning`: a hard question to a stronger model, which AWORLD_REASONING_… names, with what is known."""

from aworld.tools.common import endpoint
from aworld.tools.common.result import Result
from aworld.tools.common.server import ToolServer

PROMPT = """\
Work out the answer to this question. Think step by step, check the result, and end with the answer and how sure it is.
You have no tools, and can look nothing up.

Question: {question}

What is known: {known}"""


async def reasoning(question: str, known: str = "") -> Result:
    try:
        model = endpoint.of("reasoning")
        answer = await model.chat(PROMPT.format(question=question, known=known or "nothing else"))
    except endpoint.EndpointError as reason:
        return endpoint.failed(reason)
    return endpoint.told(model, answer)


def add_to(server: ToolServer) -> None:
    server.add_tool(
        reasoning,
        description="Ask a stronger model a hard question; known: all the facts it needs, for it has no tools.",
    )


if __name__ == "__main__":
    from aworld.tools.__main__ import serve

    serve(["reasoning"])
