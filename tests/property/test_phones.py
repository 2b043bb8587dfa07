"""A phone number read by the short way is the one that the library reads by its long way."""

import phonenumbers
import pytest
from hypothesis import event, given
from hypothesis import strategies as st

from shared.errors import PhoneInvalid
from shared.phones import parse_payer_phone

PREFIXES = st.sampled_from(["+254", "254", "0", "", "+2540", "2540", "00254", "+255", "+"])


def read_by_the_library(typed: str) -> str | None:
    try:
        number = phonenumbers.parse(typed, "KE")
    except phonenumbers.NumberParseException:
        return None
    kenyan = phonenumbers.region_code_for_number(number) == "KE"
    if not kenyan or phonenumbers.number_type(number) != phonenumbers.PhoneNumberType.MOBILE:
        return None
    return phonenumbers.format_number(number, phonenumbers.PhoneNumberFormat.E164)


@given(PREFIXES, st.from_regex(r"[17][0-9]{8}|[0-9]{7,10}", fullmatch=True))
def test_both_ways_read_the_same_number(prefix: str, national: str) -> None:
    typed = prefix + national
    expected = read_by_the_library(typed)
    event("a mobile number" if expected else "none")
    if expected is None:
        with pytest.raises(PhoneInvalid):
            parse_payer_phone(typed)
    else:
        assert parse_payer_phone(typed) == expected
