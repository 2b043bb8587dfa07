"""What may be shown of a personal value: enough for its owner to recognise, too little to use."""


def mask_phone(phone: str) -> str:
    """Show the country and the last two digits of an E.164 number: +2547******78."""
    return phone[:5] + "*" * max(0, len(phone) - 7) + phone[-2:]


def mask_name(name: str) -> str:
    """Show the initials: J*** W***."""
    return " ".join(f"{part[0]}***" for part in name.split())


def mask_email(email: str) -> str:
    """Show the first letter and the domain: j***@example.co.ke."""
    return f"{email[0]}***@{email.partition('@')[2]}"
