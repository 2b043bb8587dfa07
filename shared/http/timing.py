"""Where the time of a request went, for the Server-Timing header."""

from contextvars import ContextVar

_spent: ContextVar[dict[str, float] | None] = ContextVar("spent", default=None)


def start() -> dict[str, float]:
    """Begin the account of this request: seconds by name ("db", "rail")."""
    account: dict[str, float] = {}
    _spent.set(account)
    return account


def spent(name: str, seconds: float) -> None:
    """Book `seconds` of waiting under `name`. Outside a request it is nobody's."""
    account = _spent.get()
    if account is not None:
        account[name] = account.get(name, 0.0) + seconds


def server_timing(account: dict[str, float], total_s: float) -> str:
    """The header (W3C Server Timing): milliseconds, the total first."""
    parts = [f"total;dur={total_s * 1000:.2f}"]
    parts += [f"{name};dur={seconds * 1000:.2f}" for name, seconds in account.items()]
    return ", ".join(parts)
