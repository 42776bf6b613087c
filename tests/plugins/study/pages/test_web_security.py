"""Headers, tokens, sizes, hosts, cookies and errors: every page, every method."""

from __future__ import annotations

import logging

import pytest
from sqlalchemy.exc import OperationalError

from charpy_plugins.study.web.settings import Settings

PAGES = (
    "/",
    "/question",
    "/thanks",
    "/leave",
    "/withdraw",
    "/withdrawn",
    "/goodbye",
    "/nothing",
    "/answer",
    "/operator/",
)
ADDRESS = "203.0.113.77"


def posts(app) -> list[str]:
    return sorted(rule.rule for rule in app.url_map.iter_rules() if "POST" in rule.methods)


def test_every_answer_of_the_server_is_sealed(serve, come):
    app = serve()
    person = come(app).join()
    image = person.page("/question").all("img")[0]["src"]
    for path in (*PAGES, image, "/static/study.css", "/static/study.js"):
        with person.client.get(path) as found:
            headers = found.headers
        policy = dict(part.split(None, 1) for part in headers["Content-Security-Policy"].split("; "))
        assert policy == {
            "default-src": "'none'",
            "img-src": "'self'",
            "style-src": "'self'",
            "script-src": "'self'",
            "form-action": "'self'",
            "frame-ancestors": "'none'",
            "base-uri": "'none'",
        }
        assert headers["Referrer-Policy"] == "no-referrer"
        assert headers["X-Content-Type-Options"] == "nosniff"
        assert headers["Cross-Origin-Opener-Policy"] == headers["Cross-Origin-Resource-Policy"] == "same-origin"
        assert "camera=()" in headers["Permissions-Policy"]
        if path in PAGES:
            assert headers["Cache-Control"] == "no-store"
            assert headers["Content-Type"] == "text/html; charset=utf-8"


def test_no_page_has_a_script_or_a_style_of_its_own(serve, come, page_class):
    app = serve(Settings(operator_token="t" * 32))
    person = come(app).join()
    for path in PAGES:
        page = page_class(person.client.get(path, follow_redirects=True).text)
        assert all(given.get("src", "").startswith("/static/") for given in page.all("script"))
        assert not page.all("style")
        for _, given in page.elements:
            assert not [name for name in given if name == "style" or name.startswith("on")]


def test_every_form_needs_its_token(serve, come, at, kept):
    app = serve(Settings(operator_token="t" * 32))
    person, other = come(app).join(), come(app).join()
    theirs = other.page("/question").forms["/answer"]["csrf_token"]
    before = kept(app)
    fields = {"position": 0, "label": 1, "confidence": 1, "code": person.code, "adult": "yes", "agree": "yes"}
    forms = posts(app)
    assert {"/answer", "/decline", "/join", "/withdraw"} < set(forms)
    for path in forms:
        for token in ({}, {"csrf_token": ""}, {"csrf_token": "made-up"}, {"csrf_token": theirs}):
            found = person.client.post(path, data={**fields, **token})
            assert found.status_code == 400, (path, token)
            assert "allow cookies" in found.text
    assert kept(app) == before
    assert at(app).store.refusals() == {"csrf": 4 * len(forms)}


def test_a_form_from_another_site_is_refused_even_with_its_token(serve, come, kept):
    app = serve()
    person = come(app).join()
    fields = {**person.page("/question").forms["/answer"], "label": 1, "confidence": 1}
    for site in ("cross-site", "same-site"):
        assert person.client.post("/answer", data=fields, headers={"Sec-Fetch-Site": site}).status_code == 400
    assert kept(app).answers == ()
    assert person.client.post("/answer", data=fields, headers={"Sec-Fetch-Site": "same-origin"}).status_code == 303


def test_ten_megabytes_are_too_much_everywhere(serve, come, kept):
    app = serve()
    person = come(app).join()
    before = kept(app)
    body = b"label=" + b"1" * 10_000_000
    for path in (*posts(app), "/nothing"):
        for kind in ("application/x-www-form-urlencoded", "multipart/form-data; boundary=x", "application/json"):
            assert person.client.post(path, data=body, content_type=kind).status_code == 413
    assert person.client.get("/question", data=body).status_code == 413
    assert kept(app) == before


@pytest.mark.parametrize("kind", ["application/json", "text/plain", "application/xml"])
def test_what_is_no_form_is_not_read(serve, come, kept, kind):
    app = serve()
    person = come(app).join()
    assert person.client.post("/answer", data=b'{"label": 1}', content_type=kind).status_code == 415
    assert kept(app).answers == ()


def test_many_fields_are_too_many(serve, come):
    person = come(serve()).join()
    parts = "".join(f'--x\r\nContent-Disposition: form-data; name="f{n}"\r\n\r\n1\r\n' for n in range(60)) + "--x--\r\n"
    found = person.client.post("/answer", data=parts.encode(), content_type="multipart/form-data; boundary=x")
    assert found.status_code == 413


def test_wrong_methods_and_unknown_pages(serve, come, kept):
    app = serve()
    person = come(app).join()
    before = kept(app)
    for method in ("PUT", "DELETE", "PATCH", "OPTIONS", "TRACE"):
        for path in ("/", "/question", "/answer", "/withdraw"):
            assert person.client.open(path, method=method).status_code == 405
    for path in ("/answer", "/join", "/decline"):
        assert "cannot be done" in person.page(path, status=405).text
    for path in ("/nothing", "/static/nothing.js", "/static/../app.py", "/static/%2e%2e/app.py", "/study.json"):
        assert "nothing here" in person.page(path, status=404).text
    assert kept(app) == before


def test_only_known_hosts_where_they_are_named(serve, come):
    app = serve(Settings(allowed_hosts=("study.example.org", "[::1]")))
    person = come(app)
    status = {
        host: person.client.get("/", headers={"Host": host}).status_code
        for host in ("study.example.org", "STUDY.example.org:443", "[::1]:8000", "[::1]")
    }
    assert set(status.values()) == {200}, status
    for host in ("example.org", "evil.org", "study.example.org.evil.org", "study.example.org:x", "a b", "<b>"):
        found = person.client.get("/", headers={"Host": host})
        assert found.status_code == 400, host
        assert host not in found.text
    forwarded = person.client.get("/", headers={"Host": "evil.org", "X-Forwarded-Host": "study.example.org"})
    assert forwarded.status_code == 400


def test_forwarded_headers_count_behind_a_proxy_only(serve, come):
    hosts = ("study.example.org",)
    through = {"Host": "127.0.0.1:8000", "X-Forwarded-Host": hosts[0], "X-Forwarded-Proto": "https"}
    assert come(serve(Settings(allowed_hosts=hosts))).client.get("/", headers=through).status_code == 400
    behind = come(serve(Settings(allowed_hosts=hosts, proxies=1, secure=True))).client.get("/", headers=through)
    assert behind.status_code == 200


def test_cookies_are_shut_in(serve, come):
    cookie = come(serve()).client.get("/").headers["Set-Cookie"]
    assert "HttpOnly" in cookie
    assert "SameSite=Lax" in cookie
    assert "Secure" not in cookie
    assert "Strict-Transport-Security" not in come(serve()).client.get("/").headers
    headers = come(serve(Settings(secure=True))).client.get("/", base_url="https://localhost").headers
    assert headers["Set-Cookie"].startswith("__Host-")
    assert "Secure" in headers["Set-Cookie"]
    assert "Path=/" in headers["Set-Cookie"]
    assert "max-age=" in headers["Strict-Transport-Security"]


def test_a_form_works_by_https_too(serve, come, kept):
    app = serve(Settings(secure=True))
    client, page = come(app).client, None
    html = client.get("/", base_url="https://localhost")
    fields = dict.fromkeys(("adult", "agree"), "yes")
    for name in ("csrf_token", "version"):
        fields[name] = html.text.split(f'name="{name}" value="')[1].split('"')[0]
    assert client.post("/join", data=fields, base_url="https://localhost").location == "/question", page
    assert len(kept(app).participants) == 1


def test_a_made_up_cookie_is_nobody(serve, come, kept):
    app = serve()
    person = come(app).join()
    name = app.config["SESSION_COOKIE_NAME"]
    value = person.client.get_cookie(name).value
    for made_up in (value[:-2] + "xx", "x" + value[1:], "", "." * 50, value.rsplit(".", 1)[0], "é"):
        stranger = come(app)
        stranger.client.set_cookie(name, made_up)
        assert stranger.client.get("/question").location == "/"
    assert len(kept(app).participants) == 1


def test_a_mistake_of_ours_shows_nothing_of_itself(serve, come, at, monkeypatch, caplog):
    app = serve()
    person = come(app).join()

    def broken(participant: object) -> None:
        raise RuntimeError("the-secret-of-the-mistake")

    monkeypatch.setattr(at(app).store, "question", broken)
    page = person.page("/question", status=500)
    assert "Our mistake" in page.text
    html = person.client.get("/question").text
    assert "the-secret" not in html
    assert "Traceback" not in html
    assert at(app).store.refusals() == {"error": 2}
    assert "the-secret-of-the-mistake" in caplog.text  # for the researcher


def test_a_database_that_is_away_is_a_short_break(serve, come, at, monkeypatch, caplog):
    app = serve()
    person = come(app).join()

    def away(*arguments: object, **more: object) -> None:
        raise OperationalError("SELECT secret", {}, Exception("database is locked"))

    page = person.page("/question")
    with monkeypatch.context() as patch:
        for name in ("answer", "note"):
            patch.setattr(at(app).store, name, away)
        found = person.send(page, "/answer", label=1, confidence=1)
        assert found.status_code == 503
        assert "SELECT" not in found.text
        assert "may not have been saved" in found.text
        assert (
            person.client.post("/answer", data={"label": 1}).status_code == 400
        )  # cannot be counted, and is refused all the same
    assert "SELECT" not in caplog.text
    assert person.send(page, "/answer", label=1, confidence=1).location == "/question"


def test_no_address_is_stored_or_logged(serve, come, tmp_path, caplog):
    caplog.set_level(logging.DEBUG)
    app = serve(Settings(limited=True, proxies=1))
    person = come(app)
    person.client.environ_base["REMOTE_ADDR"] = ADDRESS
    person.client.environ_base["HTTP_X_FORWARDED_FOR"] = ADDRESS
    person.join().finish()
    person.client.get("/nothing")
    person.client.post("/answer", data={"label": 1})
    written = b"".join(path.read_bytes() for path in tmp_path.iterdir())
    assert b"csrf" in written
    assert ADDRESS.encode() not in written
    assert ADDRESS not in caplog.text
