"""The demonstration payment, and what to tell people afterwards."""

from scripts.stack.stack import Stack


def show(stack: Stack) -> None:
    """Take one payment through the public HTTP API, step by step with times."""


def guide(stack: Stack) -> str:
    """URLs, keys and curl lines."""
    return f"API      {stack.functions_url}/docs"
