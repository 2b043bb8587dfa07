"""How the Auth stand-in says no."""


class AuthRefused(Exception):
    """One refusal: HTTP status, GoTrue's error code, its words; reasons only for weak passwords."""

    def __init__(
        self,
        status: int,
        code: str,
        message: str,
        weak_password: dict[str, list[str]] | None = None,
    ) -> None:
        super().__init__(message)
        self.status, self.code, self.message = status, code, message
        self.weak_password = weak_password
