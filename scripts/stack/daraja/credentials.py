"""The merchants this simulator knows: invented credentials, valid nowhere else, in one place.

The local stack seeds its sandbox tenant from here; nothing else may repeat these values.
"""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Merchant:
    """One Daraja app. A pay bill has no till; a till's short code is its head office."""

    name: str
    consumer_key: str
    consumer_secret: str
    short_code: str
    passkey: str
    initiator_name: str
    initiator_password: str
    till: str | None = None

    @property
    def transaction_type(self) -> str:
        """The only `TransactionType` that pairs with this merchant's `PartyB`."""
        return "CustomerBuyGoodsOnline" if self.till else "CustomerPayBillOnline"

    @property
    def party_b(self) -> str:
        """Who is paid: the till where there is one, else the pay bill."""
        return self.till or self.short_code


PAY_BILL = Merchant(
    name="Acacia Books",
    consumer_key="sim-consumer-key-acacia-0001",
    consumer_secret="sim-consumer-secret-acacia-0001",  # noqa: S106 - invented, opens nothing
    short_code="600174",
    passkey="sim0passkey0acacia0books0600174",
    initiator_name="acaciaapi",
    initiator_password="Acacia#Sim2026",  # noqa: S106 - invented, opens nothing
)

TILL = Merchant(
    name="Baobab Cafe",
    consumer_key="sim-consumer-key-baobab-0002",
    consumer_secret="sim-consumer-secret-baobab-0002",  # noqa: S106 - invented, opens nothing
    short_code="600288",
    passkey="sim0passkey0baobab0cafe00600288",
    initiator_name="baobabapi",
    initiator_password="Baobab#Sim2026",  # noqa: S106 - invented, opens nothing
    till="880288",
)

MERCHANTS = (PAY_BILL, TILL)
BY_KEY = {merchant.consumer_key: merchant for merchant in MERCHANTS}
BY_SHORT_CODE = {merchant.short_code: merchant for merchant in MERCHANTS}
