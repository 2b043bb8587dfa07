"""A report on paper: figures as people read them, every table under its head."""

from typing import Any

import pypdfium2  # type: ignore[import-untyped]

from functions.reports.pdf import as_pdf

Json = dict[str, Any]


def taxes(base: str, tax: str) -> Json:
    return {"base": base, "tax": tax}


def group(number: int, **named: str) -> Json:
    sides = {
        "sales": taxes("1000.00", "160.00"),
        "credits": taxes("37515578.70", "0.50"),
        "net": taxes("-37514578.70", "-0.50"),
    }
    return {"code": f"TG{number:02}", "rate": "0.155", "treatment": "standard"} | sides | named


def report(groups: int) -> Json:
    sides = {side: {"subtotal": "1.00", "total_tax": "0.16"} for side in ("sales", "credits")}
    sides["sales"]["total"], sides["credits"]["total"] = "1.16", "2.00"
    net = {"subtotal": "-0.84", "total_tax": "0.00", "total": "-0.84"}
    return {
        "report_type": "x",
        "merchant_name": "Cœur SARL",
        "merchant_tin": "308123456",
        "environment": "production",
        "generated_at": "2026-11-21T17:33:38Z",
        "gap_detected": False,
        "grand_totals": [{"currency": "CDF", **sides, "net": net}],
        "tax_totals": [group(number, currency="CDF") for number in range(groups)],
        "tax_return": {"currency": "CDF", "groups": [group(1)], "by_treatment": []},
        "payments": [],
        "payment_totals": [{"method": "mobile_money", "currency": "USD", **sides, "net": net}],
        "counts_by_type": {"credit_note": 3},
    }


def pages(groups: int) -> list[str]:
    document = pypdfium2.PdfDocument(as_pdf(report(groups), None))
    return [page.get_textpage().get_text_range() for page in document]


def test_report_is_written_for_people() -> None:
    (page,) = pages(1)

    assert "Cœur SARL · all outlets" in page
    assert "2026-11-21 17:33:38 UTC" in page
    assert "Merchant TIN" in page
    assert "Gap detected" in page
    assert "false" not in page
    assert "15.5%" in page
    assert "Totals by means of payment" in page
    assert "Mobile money USD Net -0.84 0.00 -0.84" in page
    assert "37,515,578.70" in page
    assert "-0.50" in page
    assert "-0.84" in page
    assert "Credit note" in page


def test_table_that_goes_on_has_its_head_on_every_page() -> None:
    _, second, _ = pages(100)

    assert second.startswith("Group")
