"""What a receipt says in each language; amounts and dates as its readers write them."""

from dataclasses import dataclass
from datetime import datetime
from typing import Final

NARROW_SPACE: Final = "\u202f"  # between thousands in French


@dataclass(frozen=True, slots=True)
class Wording:
    """One kind of receipt in one language. Braces are filled with the facts of a payment."""

    subject: str
    heading: str
    greeting: str  # with a name
    body: str
    amount: str
    merchant: str
    description: str
    method: str
    receipt: str
    date: str
    reference: str
    footer: str
    sms: str  # without its date and reference


MONTHS: Final = {
    "en": "January February March April May June July August September October November December",
    "fr": "janvier février mars avril mai juin juillet août septembre octobre novembre décembre",
    "sw": "Januari Februari Machi Aprili Mei Juni Julai Agosti Septemba Oktoba Novemba Desemba",
}

SMS_END: Final = ", {date}. Ref {reference}"

WORDINGS: Final[dict[str, dict[str, Wording]]] = {
    "receipt": {
        "en": Wording(
            subject="Receipt for {amount} to {merchant}",
            heading="Payment received",
            greeting="Hello {name},",
            body="{merchant} has received your payment. Thank you.",
            amount="Amount",
            merchant="Paid to",
            description="For",
            method="Paid by",
            receipt="{rail} receipt",
            date="Date",
            reference="Reference",
            footer="You get this because {merchant} was given your address with the payment.",
            sms="{merchant}: {amount} received by {rail}, receipt {receipt}",
        ),
        "fr": Wording(
            subject="Reçu de {amount} pour {merchant}",
            heading="Paiement reçu",
            greeting="Bonjour {name},",
            body="{merchant} a bien reçu votre paiement. Merci.",
            amount="Montant",
            merchant="Payé à",
            description="Pour",
            method="Payé par",
            receipt="Reçu {rail}",
            date="Date",
            reference="Référence",
            footer="Vous recevez ce message car {merchant} a votre adresse avec ce paiement.",
            sms="{merchant}: {amount} recu par {rail}, recu {receipt}",
        ),
        "sw": Wording(
            subject="Risiti ya {amount} kwa {merchant}",
            heading="Malipo yamepokelewa",
            greeting="Habari {name},",
            body="{merchant} imepokea malipo yako. Asante.",
            amount="Kiasi",
            merchant="Imelipwa kwa",
            description="Kwa ajili ya",
            method="Njia ya malipo",
            receipt="Risiti ya {rail}",
            date="Tarehe",
            reference="Kumbukumbu",
            footer="Umepokea ujumbe huu kwa sababu {merchant} ilipewa anwani yako na malipo.",
            sms="{merchant}: {amount} imepokelewa kwa {rail}, risiti {receipt}",
        ),
    },
    "refund_receipt": {
        "en": Wording(
            subject="{merchant} has returned {amount}",
            heading="Money returned",
            greeting="Hello {name},",
            body="{merchant} has sent money of your payment back to you.",
            amount="Amount returned",
            merchant="Returned by",
            description="For",
            method="Sent by",
            receipt="{rail} receipt",
            date="Date",
            reference="Payment reference",
            footer="You get this because {merchant} was given your address with the payment.",
            sms="{merchant}: {amount} returned by {rail}, receipt {receipt}",
        ),
        "fr": Wording(
            subject="{merchant} vous a remboursé {amount}",
            heading="Remboursement",
            greeting="Bonjour {name},",
            body="{merchant} vous a renvoyé de l'argent de votre paiement.",
            amount="Montant remboursé",
            merchant="Remboursé par",
            description="Pour",
            method="Envoyé par",
            receipt="Reçu {rail}",
            date="Date",
            reference="Référence du paiement",
            footer="Vous recevez ce message car {merchant} a votre adresse avec ce paiement.",
            sms="{merchant}: {amount} rembourse par {rail}, recu {receipt}",
        ),
        "sw": Wording(
            subject="{merchant} imekurudishia {amount}",
            heading="Pesa zimerudishwa",
            greeting="Habari {name},",
            body="{merchant} imekurudishia pesa za malipo yako.",
            amount="Kiasi kilichorudishwa",
            merchant="Imerudishwa na",
            description="Kwa ajili ya",
            method="Imetumwa kwa",
            receipt="Risiti ya {rail}",
            date="Tarehe",
            reference="Kumbukumbu ya malipo",
            footer="Umepokea ujumbe huu kwa sababu {merchant} ilipewa anwani yako na malipo.",
            sms="{merchant}: {amount} imerudishwa kwa {rail}, risiti {receipt}",
        ),
    },
}


def amount_text(amount: str, currency: str, language: str) -> str:
    """Write "1500.00", "KES" as KES 1,500.00, in French as 1 500,00 KES."""
    whole, _, decimals = amount.partition(".")
    grouped = f"{int(whole):,}"
    if language != "fr":
        return f"{currency} {grouped}{'.' if decimals else ''}{decimals}"
    grouped = grouped.replace(",", NARROW_SPACE)
    return f"{grouped}{',' if decimals else ''}{decimals}\u00a0{currency}"


def date_text(paid_at: datetime, zone: str, language: str) -> str:
    """Write a wall clock as 21 November 2026, 11:00 (Nairobi). zone: its IANA name."""
    month = MONTHS[language].split()[paid_at.month - 1]
    day = "1er" if language == "fr" and paid_at.day == 1 else str(paid_at.day)
    city = zone.rpartition("/")[2].replace("_", " ")
    return f"{day} {month} {paid_at.year}, {paid_at:%H:%M} ({city})"
