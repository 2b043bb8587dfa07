"""One sandbox tenant, made as a merchant would make it: through the public HTTP API."""

from scripts.stack.stack import Stack


def seed(stack: Stack) -> None:
    """Sign up a person and a tenant with keys and M-Pesa credentials, if not done before."""
