"""Who may ask the pages of the editor for what: tokens, cookies, hosts, bodies, headers and hostile texts."""

from __future__ import annotations

from html.parser import HTMLParser

import pytest

from charpy_plugins.study.editor.app import OnceToken, create_app
from charpy_plugins.study.editor.display import to_rows
from charpy_plugins.study.studyfile import Study, read_study, write_study

RAW = "application/octet-stream"
HOST = "localhost"


def post(client, csrf, address, data=b"", kind=RAW, **headers):
    return client.post(address, data=data, content_type=kind, headers={"X-CSRFToken": csrf, **headers})


class Tags(HTMLParser):
    """Every tag of a page with its attributes."""

    def __init__(self):
        super().__init__()
        self.found = []

    def handle_starttag(self, tag, attrs):
        self.found.append((tag, dict(attrs)))


@pytest.mark.parametrize(
    ("data", "kind", "status"),
    [
        (b"", RAW, 400),
        (b"x" * 63, RAW, 400),
        (b"x" * 65, RAW, 400),
        (b"x" * 64, "text/plain", 415),
        (b"x" * 10_000_000, RAW, 413),
        (b"x" * 10_000_000, "image/png", 413),
        (b"a=" + b"x" * 10_000_000, "application/x-www-form-urlencoded", 413),
    ],
)
@pytest.mark.parametrize("page", ["score", "save"])
def test_a_body_of_the_wrong_size_or_kind_is_refused(session, enter, study, first, data, kind, status, page):
    client, csrf = enter(session)
    before = study.read_bytes()
    answer = post(client, csrf, f"/{page}/{first.id}", data, kind)
    assert answer.status_code == status
    assert answer.json["error"]
    assert study.read_bytes() == before


def test_a_forged_original_is_refused(session, enter, study, first, painting):
    client, csrf = enter(session)
    new = post(client, csrf, f"/save/{first.id}?replaces=", to_rows(painting)).json["stimulus"]
    before = study.read_bytes()
    for forged in ("0" * 16, new, first.original, "..%2f..%2fetc", "painted"):
        assert post(client, csrf, f"/save/{forged}?replaces=", to_rows(painting)).status_code == 404
        assert post(client, csrf, f"/delete/{forged}").status_code == 404
        assert client.get(f"/paint/{forged}").status_code == 404
    assert client.get(f"/image/{first.id}-x3.png").status_code == 404
    assert client.get(f"/image/{'0' * 16}-x1.png").status_code == 404
    assert study.read_bytes() == before


def test_the_address_works_once_and_every_page_needs_it(session, first):
    token = OnceToken()
    app = create_app(session, token, {HOST})
    fresh, other = app.test_client(), app.test_client()
    for page in ("/", f"/paint/{first.id}", f"/image/{first.id}-x1.png", f"/pixels/{first.id}", "/nowhere"):
        assert fresh.get(page).status_code == 401
    assert fresh.get("/enter/wrong").status_code == 401
    assert fresh.get(f"/enter/{token.text}").status_code == 303
    assert fresh.get("/").status_code == 200
    assert other.get(f"/enter/{token.text}").status_code == 401
    assert other.get("/").status_code == 401
    assert fresh.get(f"/enter/{token.text}").status_code == 303
    cookie = fresh.get_cookie("charpy_edit", domain="localhost")
    assert cookie.http_only
    assert cookie.same_site == "Strict"


@pytest.mark.parametrize("address", ["/score/{}", "/save/{}", "/delete/{}", "/reload", "/preview-x2.png"])
def test_no_request_passes_without_its_csrf_token_or_its_cookie(session, enter, study, first, painting, address):
    client, csrf = enter(session)
    before = study.read_bytes()
    address = address.format(first.id)
    for token in ("", "forged", csrf[:-1]):
        assert post(client, token, address, to_rows(painting)).status_code == 400
    client.delete_cookie("charpy_edit", domain="localhost")
    assert post(client, csrf, address, to_rows(painting)).status_code in (400, 401)
    assert client.get(address).status_code in (401, 405)
    assert study.read_bytes() == before


@pytest.mark.parametrize("host", ["evil.example", "127.0.0.1", "localhost:1", "localhost.evil.example", "", "a b"])
def test_another_host_header_is_refused(session, enter, host):
    client, _ = enter(session)
    answer = client.get("/", headers={"Host": host})
    assert answer.status_code in (400, 403)
    assert b"Digits by hand" not in answer.data


def test_every_answer_has_the_headers_of_a_locked_page(session, enter, first):
    client, csrf = enter(session)
    for answer in (
        client.get("/"),
        client.get(f"/paint/{first.id}"),
        client.get("/nowhere"),
        client.get("/static/paint.js"),
        client.get(f"/image/{first.id}-x1.png"),
        post(client, csrf, "/save/nothing"),
    ):
        policy = answer.headers["Content-Security-Policy"]
        assert "unsafe" not in policy
        assert "default-src 'none'" in policy
        assert answer.headers["X-Content-Type-Options"] == "nosniff"
        assert answer.headers["X-Frame-Options"] == "DENY"
        assert answer.headers["Cache-Control"] == "no-store"
        answer.close()


def test_the_pages_have_no_inline_script_or_style(session, enter, first):
    client, _ = enter(session)
    for page in ("/", f"/paint/{first.id}", "/nowhere"):
        tags = Tags()
        tags.feed(client.get(page).get_data(as_text=True))
        assert "style" not in {tag for tag, _ in tags.found}
        assert not [name for _, names in tags.found for name in names if name == "style" or name.startswith("on")]
        assert all(names.get("src", "").startswith("/static/") for tag, names in tags.found if tag == "script")


def test_hostile_text_of_a_study_is_inert(tmp_path, make_study, open_session, enter):
    path = make_study(tmp_path / "bad.study", model="<script>alert(1)</script>")
    study = read_study(path)
    evil = "\"><img src=x onerror=alert(1)>'\u202e{{ 7*7 }}"
    hostile = study.document.model_copy(
        update={
            "name": evil,
            "labels": (evil, *study.document.labels[1:]),
            "stimuli": tuple(
                one.model_copy(update={"original": f"{evil}{i}"}) for i, one in enumerate(study.document.stimuli)
            ),
        }
    )
    write_study(Study(hostile, study.images), path)
    client, _ = enter(open_session(path))
    for page in ("/", f"/paint/{hostile.stimuli[2].id}"):
        text = client.get(page).get_data(as_text=True)
        assert "<img src=x" not in text
        assert "\u202e" not in text
        assert "49" not in text.split("<main")[1]
        assert "&lt;img src=x" in text
