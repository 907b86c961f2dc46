"""What the tools of this package return."""

from mcp_types import CallToolResult, ContentBlock, ResourceLink, TextContent

PART_CHARS = 8_000
UNREACHABLE = "the web did not answer"  # what the text begins with where asking again may help
UNANSWERED = "the endpoint did not answer"  # the same of a model that a tool asks, whatever the reason


def text(content: str, is_error: bool = False) -> CallToolResult:
    """Plain text, as it is: an exception would reach the agent behind the SDK's own prefix."""
    return CallToolResult(content=[TextContent(type="text", text=content)], is_error=is_error)


def error(content: str) -> CallToolResult:
    return text(content, is_error=True)


def made(content: str, *files: str) -> CallToolResult:
    """Text, and the names of files that the call has put into the working folder."""
    links: list[ContentBlock] = [ResourceLink(type="resource_link", name=name, uri=f"file:///{name}") for name in files]
    return CallToolResult(content=[TextContent(type="text", text=content), *links], is_error=False)


def in_parts(content: str, part: int, name: str) -> CallToolResult:
    """One part of a long text, and how to have the next; part -1 is the last."""
    parts = max(1, -(-len(content) // PART_CHARS))
    part = parts if part == -1 else part
    if not 1 <= part <= parts:
        return error(f"{name} has {parts} parts, not {part}")
    shown = content[(part - 1) * PART_CHARS : part * PART_CHARS]
    more = f"\n[part {part} of {parts}; go on with part={part + 1}]" if part < parts else ""
    return text((shown or "(no text in it)") + more)
