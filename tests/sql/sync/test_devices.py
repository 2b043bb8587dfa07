"""The devices outlets speak as."""

import json
from typing import Any

from tests.sql.sync.reporting import ROLE, Reporting


class Admin:
    """A person who may register and retire the devices of a taxpayer."""

    def __init__(self, reporting: Reporting) -> None:
        self.reporting = reporting
        user_id = str(reporting.books.value("select gen_random_uuid()"))
        reporting.books.run("insert into public.users (user_id) values (%s)", user_id)
        reporting.books.run(
            "insert into public.memberships (tenant_id, user_id, app_role)"
            " values (%s, %s, 'admin')",
            reporting.tenant_id,
            user_id,
        )
        self.headers = {
            "x-stalela-user-id": user_id,
            "x-stalela-tenant-id": reporting.tenant_id,
            "x-stalela-environment": "sandbox",
        }

    def register(self, outlet_id: str, **state: Any) -> int:
        """The device "A/00" with what the authority says of it; the answer's status."""
        answer = self.reporting.api.call(
            ROLE,
            self.headers,
            "sync.put_device",
            tenant_id=self.reporting.tenant_id,
            environment="sandbox",
            outlet_id=outlet_id,
            jurisdiction=self.reporting.jurisdiction,
            authority_ref="A/00",
            sealed="sealed",
            key_version=1,
            masked={},
            state=state,
            expires_at=None,
        )
        return int(answer["status"])

    def retire(self, outlet_id: str) -> None:
        self.reporting.api.call(ROLE, self.headers, "sync.retire_device", outlet_id=outlet_id)

    def remembered(self) -> Any:
        """What the active device "A/00" knows."""
        return json.loads(
            self.reporting.books.value(
                "select state::text from sync.authority_devices"
                " where tenant_id = %s and authority_ref = 'A/00' and status = 'active'",
                self.reporting.tenant_id,
            )
        )


def test_device_that_comes_back_goes_on_where_it_was(strict: Reporting) -> None:
    admin = Admin(strict)
    other_outlet, _ = strict.add_outlet()
    for outlet_id in (strict.outlet_id, other_outlet):
        admin.retire(outlet_id)
    assert admin.register(strict.outlet_id, rates={"B": "16"}) == 201
    strict.books.run(
        "update sync.authority_devices set state = state || %s where authority_ref = 'A/00'",
        json.dumps({"items": {"SUGAR": 1}, "last_invoice_no": 7}),
    )
    admin.retire(strict.outlet_id)

    status = admin.register(other_outlet, rates={"B": "14"})

    assert status == 201
    assert admin.remembered() == {
        "items": {"SUGAR": 1},
        "last_invoice_no": 7,
        "rates": {"B": "14"},
    }


def test_device_of_one_taxpayer_knows_nothing_of_anothers(
    strict: Reporting, free: Reporting
) -> None:
    for taxpayer in (strict, free):
        Admin(taxpayer).retire(taxpayer.outlet_id)
    former, later = Admin(strict), Admin(free)
    former.register(strict.outlet_id, items={"SUGAR": 1})
    former.retire(strict.outlet_id)

    later.register(free.outlet_id)

    assert later.remembered() == {}
