"""Payers' phone numbers: what people type, made E.164."""

import re

from shared.errors import FieldError, PhoneInvalid

_ACCEPTED = {"KE": "phone is not a Kenyan mobile number (accepted: 07…, 01…, +254…, 254…)"}
_TYPED = re.compile(r"\+?\(?[0-9][0-9 ().-]{6,24}", re.ASCII)


def parse_payer_phone(
    text: str, region: str = "KE", *, pointer: str = "/payment_method/phone"
) -> str:
    """Give E.164 of a mobile number of `region` typed in any usual form, with spaces or dashes.

    `pointer` is the JSON pointer of the field. PhoneInvalid names the rule, never the text.
    """
    import phonenumbers  # 8 MB and 40 ms that only a confirming process should pay

    kinds, refusal = phonenumbers.PhoneNumberType, _invalid(region, pointer)
    if not _TYPED.fullmatch(text.strip()):
        raise refusal
    try:
        number = phonenumbers.parse(text, region)
    except phonenumbers.NumberParseException:
        raise refusal from None
    is_of_region = phonenumbers.region_code_for_number(number) == region
    if not is_of_region or phonenumbers.number_type(number) != kinds.MOBILE:
        raise refusal
    return phonenumbers.format_number(number, phonenumbers.PhoneNumberFormat.E164)


def _invalid(region: str, pointer: str) -> PhoneInvalid:
    rule = _ACCEPTED[region]
    return PhoneInvalid(rule, errors=[FieldError(pointer=pointer, detail=rule)])
