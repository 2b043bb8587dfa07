"""Our mail client and the Resend simulator: every answer of Resend's error page, over sockets."""

import asyncio
import json
import time
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from scripts.stack.daraja.testing import Received, Receiver, free_port, receiving, until
from scripts.stack.resend.testing import API_KEY, SECRET, Post, posting
from scripts.stack.resend.wire import signature
from shared.config import Settings
from shared.email import Email, Mailer, Outcome, Verdict, WebhookRefused

MAIL = Email(
    sender="Stalela <receipts@stalela.example>",
    to="wanjiru@mail.example",
    subject="Risiti ya malipo: KES 100.00",
    text="Asante, Wanjirũ",
    html="<p>Asante, Wanjirũ</p>",
    tags={"kind": "receipt"},
)


@pytest.fixture(scope="module")
def receiver() -> Iterator[Receiver]:
    with receiving() as running:
        yield running


@pytest.fixture(scope="module")
def process(receiver: Receiver, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Post]:
    with posting(tmp_path_factory.mktemp("resend"), f"{receiver.url}/resend") as running:
        yield running


@pytest.fixture
def post(process: Post, receiver: Receiver) -> Post:
    process.control("POST", "reset")
    # Tests of one module send faster than Resend allows one customer.
    process.settings(requests_per_s=1000, delivery_delay_s=0)
    receiver.received.clear()
    return process


@pytest.fixture
async def mailer(post: Post) -> AsyncIterator[Mailer]:
    made = Mailer(settings(post.url))
    yield made
    await made.aclose()


def settings(url: str, key: str = API_KEY, secrets: tuple[str, ...] = (SECRET,)) -> Settings:
    return Settings(
        function_name="receipts",
        data_api_url="http://data.test",
        data_api_token="token",
        supabase_url="http://supabase.test",
        functions_url="http://functions.test",
        resend_url=url,
        resend_api_key=key,
        resend_webhook_secrets=list(secrets),
    )


async def test_mail_arrives_as_it_was_rendered(post: Post, mailer: Mailer) -> None:
    outcome = await mailer.send("msg_1", MAIL.to_body())

    (mail,) = post.emails()
    assert outcome == Outcome(Verdict.SENT, email_id=mail["id"])
    assert (mail["to"], mail["subject"]) == ([MAIL.to], MAIL.subject)
    assert (mail["html"], mail["text"]) == (MAIL.html, MAIL.text)
    assert mail["idempotency_key"] == "msg_1"


async def test_body_goes_out_byte_for_byte_as_it_was_kept(post: Post, mailer: Mailer) -> None:
    kept = MAIL.to_body()

    await mailer.send("msg_1", kept)
    await mailer.send("msg_1", kept)

    assert [request["body"] for request in post.requests()] == [kept, kept]
    assert len(post.emails()) == 1


async def test_mailer_without_a_key_keeps_the_message(post: Post) -> None:
    outcome = await Mailer(settings(post.url, key="")).send("msg_1", MAIL.to_body())

    assert outcome.verdict is Verdict.KEPT
    assert post.requests() == []


@pytest.mark.parametrize("fault", ["lost_answer", "hang_up"])
async def test_mail_whose_answer_was_lost_is_sent_once(
    post: Post, mailer: Mailer, fault: str
) -> None:
    post.arm(fault)

    first = await mailer.send("msg_1", MAIL.to_body())
    second = await mailer.send("msg_1", MAIL.to_body())

    assert (first.verdict, first.is_unsure) == (Verdict.RETRY, True)
    assert second.verdict is Verdict.SENT
    assert len(post.emails()) == 1


async def test_same_key_with_another_body_is_final(post: Post, mailer: Mailer) -> None:
    await mailer.send("msg_1", MAIL.to_body())

    outcome = await mailer.send("msg_1", MAIL.to_body().replace("Asante", "Merci"))

    assert outcome == Outcome(Verdict.FINAL, code="invalid_idempotent_request")


async def test_same_key_at_the_same_moment_is_tried_again(post: Post, mailer: Mailer) -> None:
    post.arm("slow")
    first = asyncio.create_task(mailer.send("msg_1", MAIL.to_body()))
    await asyncio.sleep(1.5)  # half of how slow it is: the first is there, and not answered

    second = await mailer.send("msg_1", MAIL.to_body())

    assert (await first).verdict is Verdict.SENT
    assert (second.verdict, second.code) == (Verdict.RETRY, "concurrent_idempotent_requests")
    assert second.retry_after_s == 5


async def test_key_is_forgotten_after_a_day(post: Post, mailer: Mailer) -> None:
    await mailer.send("msg_1", MAIL.to_body())
    post.advance(86_401)

    await mailer.send("msg_1", MAIL.to_body())

    assert len(post.emails()) == 2


async def test_too_many_requests_pause_all_mail_for_as_long_as_resend_says(
    post: Post, mailer: Mailer
) -> None:
    post.arm("rate_limit")

    outcome = await mailer.send("msg_1", MAIL.to_body())

    assert outcome == Outcome(Verdict.RETRY, code="rate_limit_exceeded", retry_after_s=1, pause_s=1)


@pytest.mark.parametrize("quota", ["daily", "monthly"])
async def test_exhausted_quota_parks_all_mail_until_midnight(
    post: Post, mailer: Mailer, quota: str
) -> None:
    post.settings(**{f"{quota}_quota": 0})

    outcome = await mailer.send("msg_1", MAIL.to_body())

    assert (outcome.verdict, outcome.code) == (Verdict.PARK, f"{quota}_quota_exceeded")
    assert outcome.is_unsure is False
    assert 0 < (outcome.pause_s or 0) <= 86_401


@pytest.mark.parametrize(("key", "code"), [("re_wrong", "invalid_api_key")])
async def test_wrong_key_parks_all_mail(post: Post, key: str, code: str) -> None:
    mailer = Mailer(settings(post.url, key=key))

    outcome = await mailer.send("msg_1", MAIL.to_body())

    await mailer.aclose()
    assert (outcome.verdict, outcome.code, outcome.pause_s) == (Verdict.PARK, code, 900)


async def test_unverified_domain_parks_all_mail(post: Post, mailer: Mailer) -> None:
    post.settings(verified_domains=["other.example"])

    outcome = await mailer.send("msg_1", MAIL.to_body())

    assert (outcome.verdict, outcome.code) == (Verdict.PARK, "validation_error")


@pytest.mark.parametrize(
    ("field", "value", "code"),
    [
        ("subject", "", "missing_required_field"),
        ("from", "nobody", "invalid_from_address"),
        ("to", ["nobody"], "validation_error"),
    ],
)
async def test_mail_that_is_not_one_is_final(
    post: Post, mailer: Mailer, field: str, value: object, code: str
) -> None:
    body = json.loads(MAIL.to_body()) | {field: value}

    outcome = await mailer.send("msg_1", json.dumps(body))

    assert outcome == Outcome(Verdict.FINAL, code=code)


@pytest.mark.parametrize("fault", ["down", "html"])
async def test_fault_of_resend_is_tried_again(post: Post, mailer: Mailer, fault: str) -> None:
    post.arm(fault)

    outcome = await mailer.send("msg_1", MAIL.to_body())

    assert (outcome.verdict, outcome.code) == (Verdict.RETRY, "application_error")
    assert outcome.is_unsure is True


async def test_refused_connection_is_known_to_have_sent_nothing() -> None:
    mailer = Mailer(settings(f"http://127.0.0.1:{free_port()}"))

    outcome = await mailer.send("msg_1", MAIL.to_body())

    await mailer.aclose()
    assert (outcome.verdict, outcome.is_unsure) == (Verdict.RETRY, False)


async def test_two_mailers_of_one_process_keep_their_own_settings(post: Post) -> None:
    good, wrong = Mailer(settings(post.url)), Mailer(settings(post.url, key="re_wrong"))

    outcomes = await asyncio.gather(
        good.send("msg_1", MAIL.to_body()),
        wrong.send("msg_2", MAIL.to_body()),
        good.send("msg_3", MAIL.to_body()),
    )

    await good.aclose()
    await wrong.aclose()
    assert [outcome.verdict for outcome in outcomes] == ["sent", "park", "sent"]


# --- webhooks


def heard(receiver: Receiver, sent: Outcome, wanted: int) -> list[Received]:
    """The webhooks about this mail, once there are `wanted`."""
    about = str(sent.email_id).encode()

    def found() -> list[Received] | bool:
        received = [one for one in list(receiver.received) if about in one.body]
        return len(received) >= wanted and received

    return until(found)


async def test_webhooks_tell_what_became_of_a_mail(
    post: Post, mailer: Mailer, receiver: Receiver
) -> None:
    sent = await mailer.send("msg_1", MAIL.to_body())

    received = heard(receiver, sent, 2)
    events = [mailer.read_event(one.body, one.headers) for one in received]
    assert sorted(event.kind for event in events) == ["delivered", "sent"]
    assert {event.email_id for event in events} == {sent.email_id}
    assert events[0].recipients == (MAIL.to,)
    assert events[0].event_id != events[1].event_id


async def test_bounce_comes_after_delivered(post: Post, mailer: Mailer, receiver: Receiver) -> None:
    late = MAIL.to_body().replace("wanjiru@", "bounced-late@")

    sent = await mailer.send("msg_1", late)

    received = heard(receiver, sent, 3)
    kinds = {mailer.read_event(one.body, one.headers).kind for one in received}
    assert kinds == {"sent", "delivered", "bounced"}


@pytest.mark.parametrize("fault", ["webhook_stale", "webhook_wrong_secret"])
async def test_webhook_that_is_stale_or_of_another_is_refused(
    post: Post, mailer: Mailer, receiver: Receiver, fault: str
) -> None:
    post.arm(fault)

    sent = await mailer.send("msg_1", MAIL.to_body())

    received = heard(receiver, sent, 2)
    refused = 0
    for one in received:
        try:
            mailer.read_event(one.body, one.headers)
        except WebhookRefused:
            refused += 1
    assert refused == 1


async def test_duplicate_webhook_has_the_same_id(
    post: Post, mailer: Mailer, receiver: Receiver
) -> None:
    post.arm("webhook_duplicate")

    sent = await mailer.send("msg_1", MAIL.to_body())

    received = heard(receiver, sent, 3)
    ids = [mailer.read_event(one.body, one.headers).event_id for one in received]
    assert (len(ids), len(set(ids))) == (3, 2)


def signed(
    body: bytes, secret: str = SECRET, prefix: str = "svix", **changes: str
) -> dict[str, str]:
    now = int(time.time())
    headers = {
        f"{prefix}-id": "msg_x",
        f"{prefix}-timestamp": str(now),
        f"{prefix}-signature": signature(secret, "msg_x", now, body),
    }
    return headers | {f"{prefix}-{name}": value for name, value in changes.items()}


BOUNCE = json.dumps(
    {
        "type": "email.bounced",
        "created_at": "2026-11-21T08:00:00.000Z",
        "data": {"email_id": "e-1", "to": ["wanjiru@mail.example"]},
    }
).encode()


@pytest.mark.parametrize("prefix", ["svix", "webhook"])
def test_both_names_of_the_headers_are_read(prefix: str) -> None:
    event = Mailer(settings("http://unused.test")).read_event(BOUNCE, signed(BOUNCE, prefix=prefix))

    assert (event.event_id, event.kind, event.email_id) == ("msg_x", "bounced", "e-1")


def test_secret_may_be_changed_without_losing_a_webhook() -> None:
    new = "whsec_bmV3IHNlY3JldA=="
    mailer = Mailer(settings("http://unused.test", secrets=(new, SECRET)))

    kinds = [mailer.read_event(BOUNCE, signed(BOUNCE, secret)).kind for secret in (new, SECRET)]

    assert kinds == ["bounced", "bounced"]


def test_any_good_signature_of_several_is_enough() -> None:
    headers = signed(BOUNCE)
    headers["svix-signature"] = f"v1,AAAA v1a,BBBB {headers['svix-signature']}"

    event = Mailer(settings("http://unused.test")).read_event(BOUNCE, headers)

    assert event.kind == "bounced"


@pytest.mark.parametrize(
    ("body", "changes"),
    [
        (BOUNCE + b" ", {}),
        (BOUNCE, {"id": "msg_y"}),
        (BOUNCE, {"timestamp": "1"}),
        (BOUNCE, {"timestamp": "soon"}),
        (BOUNCE, {"signature": ""}),
        (BOUNCE, {"signature": "v1,é"}),
        (b"\xff", {}),
    ],
)
def test_webhook_that_was_touched_is_refused(body: bytes, changes: dict[str, str]) -> None:
    with pytest.raises(WebhookRefused):
        Mailer(settings("http://unused.test")).read_event(body, signed(BOUNCE, **changes))


@pytest.mark.parametrize(
    "body",
    [b"[]", b'{"type": "email.sent"}', b'{"type": 1}', b'{"type":"contact.created","data":{}}'],
)
def test_signed_webhook_about_something_else_is_refused(body: bytes) -> None:
    with pytest.raises(WebhookRefused, match="about a mail"):
        Mailer(settings("http://unused.test")).read_event(body, signed(body))


def test_webhook_is_refused_where_no_secret_is_configured() -> None:
    with pytest.raises(WebhookRefused):
        Mailer(settings("http://unused.test", secrets=())).read_event(BOUNCE, signed(BOUNCE))


def test_simulator_keeps_its_mail_over_a_restart(tmp_path: Path) -> None:
    body = json.loads(MAIL.to_body())
    bearer = {"authorization": f"Bearer {API_KEY}"}
    with posting(tmp_path) as first:
        first.http.post("/emails", json=body, headers=bearer).raise_for_status()

    with posting(tmp_path) as second:
        (mail,) = second.emails()

    assert mail["subject"] == MAIL.subject
