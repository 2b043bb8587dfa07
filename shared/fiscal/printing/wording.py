"""What a printed document says in each language. A new language is one more Words here."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final


@dataclass(frozen=True, slots=True)
class Words:
    """Every word of a document in one language; titles, methods and treatments by their codes."""

    language: str
    point: str
    thousands: str
    percent: str
    titles: Mapping[str, str]
    methods: Mapping[str, str]
    reasons: Mapping[str, str]
    treatments: Mapping[str, str]
    registration: str
    number: str
    authority: str
    sealed: str
    code: str
    date: str
    reference: str
    original: str
    reason: str
    cashier: str
    terminal: str
    buyer: str
    address: str
    exemption: str
    certificate: str
    article: str
    quantity: str
    unit_price: str
    discount: str
    amount_exclusive: str
    amount_inclusive: str
    group: str
    base: str
    tax: str
    subtotal: str
    total_tax: str
    total: str
    rate: str
    tax_in: str
    payments: str
    notes: str
    security: str
    scan: str
    copy: str
    duplicate: str
    sandbox: str
    proforma: str
    training: str
    thanks: str
    page: str


PROVIDERS: Final = {
    "airtel_money": "Airtel Money",
    "ecocash": "EcoCash",
    "mpesa": "M-Pesa",
    "mtn_momo": "MTN MoMo",
    "orange_money": "Orange Money",
}

WORDS: Final[Mapping[str, Words]] = {
    "fr": Words(
        language="fr",
        point=",",
        thousands="\u202f",
        percent="\u00a0%",
        titles={
            "sale": "Facture",
            "advance": "Facture d'acompte",
            "credit_note": "Facture d'avoir",
            "debit_note": "Note de débit",
            "export": "Facture à l'exportation",
            "export_credit": "Avoir à l'exportation",
            "export_advance": "Acompte à l'exportation",
        },
        methods={
            "cash": "Espèces",
            "mobile_money": "Argent mobile",
            "card": "Carte bancaire",
            "bank_transfer": "Virement",
            "cheque": "Chèque",
            "credit": "Reste à payer",
            "voucher": "Bon d'achat",
            "other": "Autre",
        },
        reasons={
            "returned_goods": "Retour de marchandises",
            "correction": "Correction",
            "cancellation": "Annulation",
            "rebate": "Remise",
            "other": "Autre",
        },
        treatments={
            "standard": "TVA",
            "reduced": "TVA réduite",
            "exempt": "Exonéré",
            "zero": "Taux zéro",
            "special": "Régime spécial",
            "excise": "Taxe spécifique",
            "out_of_scope": "Hors champ",
            "levy": "Prélèvement",
        },
        registration="RCCM",
        number="N° fiscal",
        authority="Autorité fiscale",
        sealed="Scellé le",
        code="Code d'authentification",
        date="Établi le",
        reference="Référence",
        original="Document d'origine",
        reason="Motif",
        cashier="Caissier",
        terminal="Terminal",
        buyer="Client",
        address="Adresse",
        exemption="Exonération",
        certificate="Certificat d'exportation",
        article="Désignation",
        quantity="Qté",
        unit_price="P.U.",
        discount="Remise",
        amount_exclusive="Montant HT",
        amount_inclusive="Montant TTC",
        group="Groupe",
        base="Base",
        tax="Taxe",
        subtotal="Total HT",
        total_tax="Total taxes",
        total="TOTAL TTC",
        rate="Taux de change",
        tax_in="Taxes en",
        payments="Règlement",
        notes="Notes",
        security="Éléments de sécurité",
        scan="Scannez le code pour vérifier ce document",
        copy="COPIE",
        duplicate="DUPLICATA",
        sandbox="TEST : SANS VALEUR FISCALE",
        proforma="PROFORMA : CECI N'EST PAS UNE FACTURE",
        training="FORMATION : SANS VALEUR FISCALE",
        thanks="Merci de votre visite",
        page="Page",
    ),
    "en": Words(
        language="en",
        point=".",
        thousands=",",
        percent="%",
        titles={
            "sale": "Tax invoice",
            "advance": "Advance invoice",
            "credit_note": "Credit note",
            "debit_note": "Debit note",
            "export": "Export invoice",
            "export_credit": "Export credit note",
            "export_advance": "Export advance invoice",
        },
        methods={
            "cash": "Cash",
            "mobile_money": "Mobile money",
            "card": "Card",
            "bank_transfer": "Bank transfer",
            "cheque": "Cheque",
            "credit": "Balance due",
            "voucher": "Voucher",
            "other": "Other",
        },
        reasons={
            "returned_goods": "Returned goods",
            "correction": "Correction",
            "cancellation": "Cancellation",
            "rebate": "Rebate",
            "other": "Other",
        },
        treatments={
            "standard": "VAT",
            "reduced": "Reduced VAT",
            "exempt": "Exempt",
            "zero": "Zero rated",
            "special": "Special rate",
            "excise": "Specific tax",
            "out_of_scope": "Out of scope",
            "levy": "Levy",
        },
        registration="Reg. no.",
        number="Fiscal no.",
        authority="Fiscal authority",
        sealed="Sealed at",
        code="Authentication code",
        date="Date",
        reference="Reference",
        original="Original document",
        reason="Reason",
        cashier="Cashier",
        terminal="Terminal",
        buyer="Customer",
        address="Address",
        exemption="Exemption",
        certificate="Export certificate",
        article="Description",
        quantity="Qty",
        unit_price="Unit price",
        discount="Discount",
        amount_exclusive="Amount excl.",
        amount_inclusive="Amount",
        group="Group",
        base="Base",
        tax="Tax",
        subtotal="Subtotal",
        total_tax="Total tax",
        total="TOTAL",
        rate="Exchange rate",
        tax_in="Tax in",
        payments="Payment",
        notes="Notes",
        security="Security elements",
        scan="Scan the code to verify this document",
        copy="COPY",
        duplicate="DUPLICATE",
        sandbox="TEST: NO FISCAL VALUE",
        proforma="PROFORMA: THIS IS NOT AN INVOICE",
        training="TRAINING: NO FISCAL VALUE",
        thanks="Thank you for your custom",
        page="Page",
    ),
    "sw": Words(
        language="sw",
        point=".",
        thousands=",",
        percent="%",
        titles={
            "sale": "Ankara ya kodi",
            "advance": "Ankara ya malipo ya awali",
            "credit_note": "Hati ya marejesho",
            "debit_note": "Hati ya nyongeza",
            "export": "Ankara ya mauzo ya nje",
            "export_credit": "Hati ya marejesho ya mauzo ya nje",
            "export_advance": "Ankara ya awali ya mauzo ya nje",
        },
        methods={
            "cash": "Taslimu",
            "mobile_money": "Pesa ya simu",
            "card": "Kadi",
            "bank_transfer": "Uhamisho wa benki",
            "cheque": "Hundi",
            "credit": "Salio la kulipwa",
            "voucher": "Vocha",
            "other": "Nyingine",
        },
        reasons={
            "returned_goods": "Bidhaa zimerudishwa",
            "correction": "Marekebisho",
            "cancellation": "Kufutwa",
            "rebate": "Punguzo",
            "other": "Nyingine",
        },
        treatments={
            "standard": "VAT",
            "reduced": "VAT iliyopunguzwa",
            "exempt": "Imesamehewa",
            "zero": "Kiwango sifuri",
            "special": "Kiwango maalum",
            "excise": "Ushuru maalum",
            "out_of_scope": "Nje ya VAT",
            "levy": "Tozo",
        },
        registration="Na. ya usajili",
        number="Na. ya kodi",
        authority="Mamlaka ya kodi",
        sealed="Imefungwa",
        code="Msimbo wa uthibitisho",
        date="Tarehe",
        reference="Kumbukumbu",
        original="Hati ya awali",
        reason="Sababu",
        cashier="Keshia",
        terminal="Kituo",
        buyer="Mteja",
        address="Anwani",
        exemption="Msamaha",
        certificate="Cheti cha mauzo ya nje",
        article="Maelezo",
        quantity="Idadi",
        unit_price="Bei",
        discount="Punguzo",
        amount_exclusive="Kabla ya kodi",
        amount_inclusive="Kiasi",
        group="Kundi",
        base="Msingi",
        tax="Kodi",
        subtotal="Jumla kabla ya kodi",
        total_tax="Jumla ya kodi",
        total="JUMLA",
        rate="Kiwango cha fedha",
        tax_in="Kodi kwa",
        payments="Malipo",
        notes="Maelezo ya ziada",
        security="Alama za usalama",
        scan="Changanua msimbo kuthibitisha hati hii",
        copy="NAKALA",
        duplicate="NAKALA NA.",
        sandbox="JARIBIO: HAINA THAMANI YA KODI",
        proforma="PROFORMA: HII SI ANKARA",
        training="MAFUNZO: HAINA THAMANI YA KODI",
        thanks="Asante kwa kununua kwetu",
        page="Ukurasa",
    ),
}
