"""Payers' phone numbers: what people type, made E.164."""

import re
from functools import cache

from shared.errors import FieldError, PhoneInvalid

_ACCEPTED = {"KE": "phone is not a Kenyan mobile number (accepted: 07…, 01…, +254…, 254…)"}
_TYPED = re.compile(r"\+?\(?[0-9][0-9 ().-]{6,24}", re.ASCII)


def parse_payer_phone(
    text: str, region: str = "KE", *, pointer: str = "/payment_method/phone"
) -> str:
    """Give E.164 of a mobile number of `region` typed in any usual form, with spaces or dashes.

    `pointer` is the JSON pointer of the field. PhoneInvalid names the rule, never the text.
    """
    typed = text.strip()
    if not _TYPED.fullmatch(typed):
        raise _invalid(region, pointer)
    country_code, plain = _plain_form(region)
    if match := plain.fullmatch(typed):
        return f"+{country_code}{match['national']}"
    number = _parsed(typed, region)
    if number is None:
        raise _invalid(region, pointer)
    return number


@cache
def _plain_form(region: str) -> tuple[str, re.Pattern[str]]:
    """The country code, and a mobile number of `region` as most type it: digits alone.

    By the library's own pattern; to have it parse such a number costs twenty times as much.
    """
    from phonenumbers import PhoneMetadata

    known = PhoneMetadata.metadata_for_region(region)
    assert known is not None, f"the library knows {region}"
    assert known.mobile is not None, f"the library knows mobile numbers of {region}"
    prefix = rf"\+?{known.country_code}|{known.national_prefix}"
    national = known.mobile.national_number_pattern
    return str(known.country_code), re.compile(rf"(?:{prefix})(?P<national>{national})", re.ASCII)


def _parsed(typed: str, region: str) -> str | None:
    import phonenumbers  # 8 MB and 40 ms that only a confirming process should pay

    try:
        number = phonenumbers.parse(typed, region)
    except phonenumbers.NumberParseException:
        return None
    is_of_region = phonenumbers.region_code_for_number(number) == region
    if not is_of_region or phonenumbers.number_type(number) != phonenumbers.PhoneNumberType.MOBILE:
        return None
    return phonenumbers.format_number(number, phonenumbers.PhoneNumberFormat.E164)


def _invalid(region: str, pointer: str) -> PhoneInvalid:
    rule = _ACCEPTED[region]
    return PhoneInvalid(rule, errors=[FieldError(pointer=pointer, detail=rule)])
