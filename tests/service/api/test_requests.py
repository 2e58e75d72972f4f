"""Requests as strangers send them: without keys, with large bodies, from other sites."""

import asyncio
import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from starlette.types import Message

from service.api.keys import KeyRing, new_key
from tests.service.api.test_middleware import Served, served
from workers.store.errors import StoreError

__all__ = ["served"]


def raw(app: Any, headers: dict[str, str], body: list[Message]) -> tuple[list[Message], int]:
    """The messages that an app answers to `POST /v1/search`, and how many of `body` it read."""
    sent: list[Message] = []
    left = list(body)

    async def receive() -> Message:
        if left:
            return left.pop(0)
        await asyncio.sleep(60)
        raise AssertionError

    async def send(message: Message) -> None:
        sent.append(message)

    scope = {
        "type": "http", "asgi": {"version": "3.0", "spec_version": "2.4"}, "http_version": "1.1",
        "method": "POST", "path": "/v1/search", "raw_path": b"/v1/search", "query_string": b"",
        "root_path": "", "scheme": "http", "client": ("127.0.0.1", 1), "server": ("localhost", 80),
        "headers": [(k.lower().encode(), v.encode()) for k, v in headers.items()],
    }  # fmt: skip
    asyncio.run(asyncio.wait_for(app(scope, receive, send), 10))
    return sent, len(body) - len(left)


JSON_HEAD = {"Host": "localhost", "Content-Type": "application/json"}
PART: Message = {"type": "http.request", "body": b"{" * 400, "more_body": True}


def test_a_key_is_asked_for_before_a_body_is_read(tmp_path: Path) -> None:
    secret, entry = new_key("ann", ["read"])
    app = Served(tmp_path, KeyRing([entry])).app
    for more in ({"Content-Length": "1000"}, {"Transfer-Encoding": "chunked"}):
        sent, read = raw(app, JSON_HEAD | more, [PART])
        assert (sent[0]["status"], read) == (401, 0)
        assert dict(sent[0]["headers"])[b"connection"] == b"close"
    last: Message = {"type": "http.request", "body": b'{"take": "none", "text": "a"}'}
    known = {"Authorization": f"Bearer {secret}", "Content-Length": "29"}
    sent, read = raw(app, JSON_HEAD | known, [last])
    assert (sent[0]["status"], read) == (404, 1)


def test_bodies_are_bounded_each_and_together(tmp_path: Path) -> None:
    served = Served(tmp_path, limits={"body_bytes": 1000, "bodies_bytes": 1500})
    sent, read = raw(served.app, JSON_HEAD | {"Content-Length": "1001"}, [PART])
    assert (sent[0]["status"], read) == (413, 0), "announced as too large"
    sent, read = raw(served.app, JSON_HEAD, [PART] * 4)
    assert (sent[0]["status"], read) == (413, 3), "too large as it came"

    async def held() -> list[int]:
        """Statuses of some requests whose bodies never end."""
        statuses: list[int] = []

        async def one() -> None:
            parts = [PART, PART]

            async def receive() -> Message:
                await asyncio.sleep(0 if parts else 0.2)
                return parts.pop() if parts else {"type": "http.disconnect"}

            async def send(message: Message) -> None:
                statuses.append(message.get("status", 0))

            headers = [(b"host", b"localhost"), (b"content-type", b"application/json")]
            scope = {"type": "http", "method": "POST", "path": "/v1/search", "headers": headers,
                     "query_string": b"", "client": ("127.0.0.1", 1)}  # fmt: skip
            await served.app(scope, receive, send)

        await asyncio.gather(*[one() for _ in range(4)])
        return [status for status in statuses if status]

    assert asyncio.run(held()).count(503) >= 2
    # And all of it was given back.
    last: Message = {"type": "http.request", "body": b'{"take": "none", "text": "a"}'}
    assert raw(served.app, JSON_HEAD, [last])[0][0]["status"] == 404


@pytest.mark.parametrize(
    ("path", "headers", "status"),
    [
        ("/v1/takes", {"Sec-Fetch-Site": "cross-site"}, 403),
        ("/v1/takes", {"Sec-Fetch-Site": "cross-site", "Origin": "https://evil.example"}, 403),
        ("/v1/takes", {"Sec-Fetch-Site": "cross-site", "Origin": "https://lab.example"}, 200),
        ("/v1/takes", {"Sec-Fetch-Site": "same-origin"}, 200),
        ("/v1/takes", {"Sec-Fetch-Site": "none"}, 200),
        ("/static/app.js", {"Sec-Fetch-Site": "cross-site"}, 403),
        ("/", {"Sec-Fetch-Site": "cross-site"}, 200),
        ("/healthz", {"Sec-Fetch-Site": "cross-site"}, 200),
    ],
)
def test_without_keys_a_page_of_another_site_gets_nothing(
    tmp_path: Path, path: str, headers: dict[str, str], status: int
) -> None:
    served = Served(tmp_path, cors_origins=["https://lab.example"])
    assert served.client.get(path, headers=headers).status_code == status
    if status == 403:
        secret, entry = new_key("ann", ["read"])
        client = Served(tmp_path, KeyRing([entry])).client
        key = {"Authorization": f"Bearer {secret}"}
        assert client.get(path, headers=headers | key).status_code == 200


def test_a_redirect_is_relative(served: Served) -> None:
    answer = served.client.get("/v1/takes/?limit=1", follow_redirects=False)
    assert (answer.status_code, answer.headers["location"]) == (307, "/v1/takes?limit=1")


@pytest.mark.parametrize(
    "unfit", ["a\\u0000b", "a\\nb", "a\\rb", "\\ud800", "a\\u2028b", "\\u007f"]
)
def test_no_field_holds_line_ends_nul_or_half_a_character(served: Served, unfit: str) -> None:
    bodies = [
        ("/v1/jobs", '{"output": "%s"}'), ("/v1/jobs", '{"encoder": "%s"}'),
        ("/v1/jobs", '{"encoder": {"revision": "%s"}}'), ("/v1/jobs", '{"rotate": {"%s": 90}}'),
        ("/v1/jobs", '{"select": {"uids": ["%s"]}}'), ("/v1/jobs", '{"%s": 1}'),
        ("/v1/search", '{"take": "one", "text": "%s"}'),
        ("/v1/search", '{"take": "one", "streams": ["%s"], "text": "x"}'),
        ("/v1/search", '{"take": "one", "image": "%s"}'),
        ("/v1/features", '{"segments": [{"take": "%s", "start": 0, "end": 1}]}'),
        ("/v1/features", '{"segments": [{"take": "one", "start": 0, "end": 1, "step_id": "%s"}]}'),
        ("/v1/features", '{"annotations": {"%s": {"segments": [{"start": 0, "end": 1}]}}}'),
    ]  # fmt: skip
    for path, body in bodies:
        answer = served.client.post(
            path, content=body % unfit, headers={"Content-Type": "application/json"}
        )
        assert 400 <= answer.status_code < 500, (body, answer.text)
        assert "pattern" not in answer.text
    escaped = {"a\\nb": "a%0ab", "\\ud800": "%ed%a0%80"}.get(unfit, "a%00b")
    for url in (f"/v1/takes/{escaped}", f"/v1/takes/one/features?streams={escaped}",
                f"/v1/takes?q={escaped}&task={escaped}", f"/v1/jobs/{escaped}"):  # fmt: skip
        answer = served.client.get(url)
        assert answer.status_code in (200, 404, 422), url
        assert "pattern" not in answer.text


def test_lists_in_a_job_are_folded_and_bounded(served: Served) -> None:
    seen: list[Any] = []

    async def submit(job: Any, by: object) -> Any:
        seen.append(job)
        raise StoreError("enough")

    served.context.engine = SimpleNamespace(submit=submit)  # type: ignore[assignment]
    views = {"select": {"views": ["ego", "exo"] * 100_000}}
    assert served.client.post("/v1/jobs", json=views).status_code == 503
    assert seen[0].select.views == ("ego", "exo")
    uids = {"select": {"uids": [f"u{n}" for n in range(501)]}}
    answer = served.client.post("/v1/jobs", json=uids)
    assert answer.status_code == 422
    assert "500 are allowed" in answer.json()["detail"]
    rotate = {"rotate": {f"cam{n}": 90 for n in range(101)}}
    assert served.client.post("/v1/jobs", json=rotate).status_code == 422


def test_readyz_names_a_data_set_that_is_gone(
    served: Served, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    served.engine.outcome = {}
    monkeypatch.setattr(served.context.catalogue._takes, "_seconds", 0)
    assert served.client.get("/readyz").json()["checks"]["dataset"] == "ok"
    (tmp_path / "data" / "takes.json").rename(tmp_path / "data" / "moved.json")
    answer = served.client.get("/readyz")
    assert answer.status_code == 503
    assert "takes.json" in answer.json()["checks"]["dataset"]
    # What was read before still serves.
    assert served.client.get("/v1/takes/one").status_code == 200


def test_a_misspelt_encoder_is_told_the_nearest_of_many(served: Served, tmp_path: Path) -> None:
    for number in range(40):
        (tmp_path / "out" / f"enc{number}-0123456789" / "u.zarr").mkdir(parents=True)
    for name in ("efficientnet_lit", "nothing like it"):
        detail = served.client.get(f"/v1/takes/one/features?encoder={name}").json()["detail"]
        assert len(detail) < 200, detail
    assert "did you mean" not in detail
    assert "the nearest of 41 names" in detail


def test_an_unknown_parameter_is_answered_with_those_of_its_route(served: Served) -> None:
    for path, given, words in (
        ("/v1/jobs", "limt", "unknown parameter 'limt'; did you mean 'limit'?"),
        ("/v1/jobs", "fps", "'fps'; valid names: by, cursor, encoder, limit, status"),
        ("/v1/takes", "ofset", "did you mean 'offset'?"),
        ("/v1/takes/one/features", "fsp", "did you mean 'fps'?"),
    ):
        answer = served.client.get(f"{path}?{given}=1")
        assert answer.status_code == 422
        assert words in answer.json()["detail"], path
        for name in answer.json()["detail"].partition("valid names: ")[2].split(", "):
            again = served.client.get(path, params={name: "1"}).text if name else ""
            assert "unknown parameter" not in again


@pytest.mark.parametrize(
    ("path", "body", "words"),
    [
        ("jobs", {"run": {"workers": 0}},
         ["body: 'run.workers' is set by the service; leave it out"]),
        ("jobs", {"encoders": [3]},
         ["encoder: must be a text or settings (key: value), not 3"]),
        ("jobs", {"encoder": {"prset": "x"}},
         ["unknown setting 'encoder.prset'; did you mean 'preset'?"]),
        ("jobs", {"encoder": 3},
         ["encoder: must be a text or settings (key: value) or a list, not 3"]),
        ("jobs", {"rotate": {"a": 45}}, ["rotate.a: 45 is not one of 0, 90, 180 or 270"]),
        ("search", {"tkae": "x"},
         ["'take' is missing", "unknown setting 'tkae'; did you mean 'take'?"]),
        ("search", {"take": "one", "moment": {"strem": "x", "time": 1}},
         ["'moment.stream' is missing", "unknown setting 'moment.strem'; did you mean 'stream'?"]),
        ("features", {"segment": []},
         ["'segments' is missing", "unknown setting 'segment'; did you mean 'segments'?"]),
        ("features", {"segments": []}, ["segments: must be at least 1 entry long, not []"]),
        ("features", {"segments": [{"take": "x", "strt": 0, "end": 1}]},
         ["'segments.0.start' is missing"]),
        ("features", {"annotations": {"x": {"segments": [{"start": 1}]}}},
         ["'annotations.x.segments.0.end' is missing"]),
    ],
)  # fmt: skip
def test_a_wrong_body_is_told_in_the_words_of_who_sent_it(
    path: str, body: dict[str, Any], words: list[str], served: Served
) -> None:
    answer = served.client.post(f"/v1/{path}", json=body)
    assert (answer.status_code, answer.json()["errors"]) == (422, words)


def test_a_body_that_is_no_json_or_endless_is_told(served: Served) -> None:
    head = {"Content-Type": "application/json"}
    for body, words in ((b"x{", "the body is no JSON: Expecting value at character 0"),
                        (b"", "body is missing")):  # fmt: skip
        assert served.client.post("/v1/jobs", content=body, headers=head).json()["detail"] == words
    many = {"segments": [{"take": "x"}] * 3000}
    assert len(served.client.post("/v1/features", json=many).json()["errors"]) == 20


@pytest.mark.parametrize(
    ("method", "path"),
    [("GET", "encoders"), ("GET", "takes/one"), ("GET", "jobs/abc"), ("POST", "jobs"),
     ("DELETE", "jobs/abc"), ("POST", "search")],
)  # fmt: skip
def test_a_route_without_parameters_refuses_them(method: str, path: str, served: Served) -> None:
    answer = served.client.request(method, f"/v1/{path}?dry_run=1")
    words = f"unknown parameter 'dry_run'; /v1/{path} takes none"
    assert (answer.status_code, answer.json()["detail"]) == (422, words)


def test_json_that_is_not_said_to_be_json_is_told(served: Served) -> None:
    for kind in ("", "application/x-www-form-urlencoded", "text/plain"):
        answer = served.client.post("/v1/jobs", content="{}", headers={"Content-Type": kind})
        assert answer.status_code == 422, kind
        assert "Content-Type: application/json" in answer.json()["detail"]
        assert "dictionary" not in answer.text
    answer = served.client.post("/v1/jobs", json=[1])
    assert answer.json()["detail"] == "body: must be settings (key: value), not [1]"


def test_a_list_of_takes_names_its_next_page(tmp_path: Path) -> None:
    served = Served(tmp_path, root_path="/features")
    takes = [{"take_uid": f"uid-{n}", "take_name": f"take {n}"} for n in range(5)]
    (tmp_path / "data" / "takes.json").write_text(json.dumps(takes))
    found, url = [], "/v1/takes?limit=2&q=take"
    while url:
        answer = served.client.get(url)
        found.append([one["take_uid"] for one in answer.json()["takes"]])
        url = answer.links.get("next", {}).get("url", "")
        assert not url or url.startswith("/features/v1/takes?q=take&limit=2&offset=")
    assert found == [["uid-0", "uid-1"], ["uid-2", "uid-3"], ["uid-4"]]
