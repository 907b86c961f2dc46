"""What the tools of this package return."""

from mcp_types import CallToolResult, TextContent


def text(content: str, is_error: bool = False) -> CallToolResult:
    """Plain text, as it is: an exception would reach the agent behind the SDK's own prefix."""
    return CallToolResult(content=[TextContent(type="text", text=content)], is_error=is_error)


def error(content: str) -> CallToolResult:
    return text(content, is_error=True)
