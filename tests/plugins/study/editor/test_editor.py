"""The pages of the editor, asked by a client without a browser: who may ask, and what a save does to the study."""

from __future__ import annotations

import io
import threading
from html.parser import HTMLParser

import numpy as np
import pytest
import torch
from PIL import Image

from charpy.pixels import distances, quantise
from charpy.plugins import registry
from charpy.threat import Norm
from charpy_plugins.study.document import Kind, Resampling
from charpy_plugins.study.editor.app import OnceToken, create_app
from charpy_plugins.study.editor.display import from_rows, rendered, to_rows
from charpy_plugins.study.studyfile import Study, read_study, write_study

RAW = "application/octet-stream"
HOST = "localhost"


def post(client, csrf, address, data=b"", kind=RAW, **headers):
    return client.post(address, data=data, content_type=kind, headers={"X-CSRFToken": csrf, **headers})


def fooling(session, stimulus):
    """A painting within the budget that the model misreads: white pixels one by one, the one that helps most first."""
    item = session.item(stimulus)
    image = session.pixels(stimulus)
    places = [(y, x) for y in range(8) for x in range(8)]
    for _ in range(int(session.limit.level)):
        tried = [(y, x, value) for y, x in places for value in (0, 255) if int(image[0, y, x]) != value]
        rows = image[None].repeat(len(tried), 1, 1, 1)
        for row, (y, x, value) in enumerate(tried):
            rows[row, 0, y, x] = value
        leads = [session.model.answer(row, item.original.label).lead for row in rows]
        image = rows[int(np.argmin(leads))]
        if min(leads) < -0.5:
            return image
    raise AssertionError("the model withstands")


class Tags(HTMLParser):
    """Every tag of a page with its attributes."""

    def __init__(self):
        super().__init__()
        self.found = []

    def handle_starttag(self, tag, attrs):
        self.found.append((tag, dict(attrs)))


@pytest.fixture
def first(session):
    return session.items()[0].original


@pytest.fixture
def painting(session, first):
    return fooling(session, first.id)


def test_a_saved_painting_is_in_the_study_with_its_exact_distance_and_metrics(session, enter, study, first, painting):
    client, csrf = enter(session)
    before = read_study(study)
    answer = post(client, csrf, f"/save/{first.id}?replaces=", to_rows(painting))
    assert answer.status_code == 200, answer.json
    after = read_study(study)
    (new,) = after.document.of("painted")
    changed = int((session.pixels(first.id) != painting).sum())
    assert (new.original, new.label, new.attack) == (first.original, first.label, "painted")
    assert new.distance == new.metrics["l0_pixels"] == changed <= 20
    assert set(new.metrics) == {"l0_pixels", "l2", "linf", "ssim"}
    model = registry().create("models", "digits-cnn")
    shown = np.array(Image.open(io.BytesIO(after.images[new.id, 1])))
    assert (shown == painting[0].numpy()).all()
    read = int(model.predict(torch.from_numpy(shown / np.float32(255))[None, None]).argmax())
    assert read == new.prediction != new.label
    assert after.document.fingerprint != before.document.fingerprint
    assert after.document.of("benign") == before.document.of("benign")
    assert Image.open(io.BytesIO(after.images[new.id, 4])).size == (32, 32)


def test_the_condition_says_what_is_painted_and_by_whose_scores(session, study, first, painting):
    session.save(first.id, painting, "")
    condition = {one.name: one for one in read_study(study).document.conditions}["painted"]
    assert condition.kind is Kind.PAINTED
    assert condition.candidates == 4
    (left,) = condition.losses
    assert (left.reason, len(left.originals)) == ("not painted", 3)
    assert first.original not in left.originals
    assert session.model.fingerprint in condition.text
    assert "within 20 pixels under l0" in condition.text


def test_repainting_replaces_and_deleting_takes_out(session, enter, study, first, painting):
    client, csrf = enter(session)
    one = post(client, csrf, f"/save/{first.id}?replaces=", to_rows(painting)).json["stimulus"]
    two = post(client, csrf, f"/save/{first.id}?replaces={one}", to_rows(painting)).json["stimulus"]
    assert one != two
    assert [stimulus.id for stimulus in read_study(study).document.of("painted")] == [two]
    assert not any(key[0] == one for key in read_study(study).images)
    assert post(client, csrf, f"/delete/{first.id}?painted={one}").status_code == 409
    assert post(client, csrf, f"/delete/{first.id}?painted={two}").status_code == 200
    assert read_study(study).document.of("painted") == ()
    assert post(client, csrf, f"/delete/{first.id}?painted=").status_code == 404


def test_what_the_judge_refuses_leaves_the_study_as_it_is(session, enter, study, first):
    client, csrf = enter(session)
    before = study.read_bytes()
    original = session.pixels(first.id)
    dot = original.clone()
    dot[0, 0, 0] = 255 - dot[0, 0, 0]
    for pixels, words in (
        (original, "nothing is painted"),
        (dot, "classified correctly"),
        (255 - original, "outside the l0 ball: "),
    ):
        answer = post(client, csrf, f"/save/{first.id}?replaces=", to_rows(pixels))
        assert answer.status_code == 422
        assert words in answer.json["error"]
    assert study.read_bytes() == before


def test_the_budget_is_kept_to_the_pixel(study, open_session, first, painting, session):
    changed = int((session.pixels(first.id) != painting).sum())
    for level, status in ((changed, 200), (changed - 1, 422)):
        session.limit = session.limit.model_copy(update={"level": level})
        session.threat = session.threat.model_copy(update={"radius": float(level)})
        if status == 422:
            with pytest.raises(Exception, match=f"outside the l0 ball: {changed} pixels"):
                session.save(first.id, painting, session.items()[0].painted.id)
        else:
            session.save(first.id, painting, "")


def test_the_live_answer_is_what_the_model_and_brute_force_say(session, enter, first, painting):
    client, csrf = enter(session)
    told = post(client, csrf, f"/score/{first.id}", to_rows(painting)).json
    original = session.pixels(first.id).double()
    gap = (painting.double() - original).abs()
    assert told["l0"] == told["distance"] == int((gap > 0).sum())
    assert told["linf"] == int(gap.max())
    assert told["l2"] == pytest.approx(float(gap.square().sum().sqrt()))
    logits = registry().create("models", "digits-cnn").predict(painting[None] / 255)[0].detach()
    assert [entry["share"] for entry in told["shares"]] == pytest.approx(logits.softmax(0).tolist(), abs=1e-5)
    others = torch.cat([logits[: first.label], logits[first.label + 1 :]])
    assert told["lead"] == pytest.approx(float(logits[first.label] - others.max()), abs=1e-4)
    assert (told["prediction"], told["hindrance"]) == (int(logits.argmax()), "")
    assert post(client, csrf, f"/score/{first.id}", to_rows(original.to(torch.uint8))).json["hindrance"]


def test_a_png_is_taken_as_raw_bytes_are(session, enter, first, painting):
    client, csrf = enter(session)
    page = rendered(painting, [1], Resampling.NEAREST)[1]
    told = post(client, csrf, f"/score/{first.id}", page, "image/png").json
    assert told == post(client, csrf, f"/score/{first.id}", to_rows(painting)).json
    buffer = io.BytesIO()
    Image.open(io.BytesIO(page)).resize((9, 8)).save(buffer, "PNG")
    assert post(client, csrf, f"/score/{first.id}", buffer.getvalue(), "image/png").status_code == 400
    assert post(client, csrf, f"/score/{first.id}", page[:60], "image/png").status_code == 400
    buffer = io.BytesIO()
    Image.new("I;16", (8, 8)).save(buffer, "PNG")
    assert post(client, csrf, f"/score/{first.id}", buffer.getvalue(), "image/png").status_code == 400


def test_rows_are_row_by_row_with_the_channels_of_a_pixel_together():
    pixels = from_rows(bytes(range(12)), (3, 2, 2))
    assert pixels[:, 0, 1].tolist() == [3, 4, 5]
    assert pixels[0].tolist() == [[0, 3], [6, 9]]
    assert to_rows(pixels) == bytes(range(12))


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


def test_a_study_that_somebody_else_has_written_is_refused_until_it_is_read_again(
    session, open_session, enter, study, first, painting
):
    other = open_session(study)
    client, csrf = enter(session)
    second = other.items()[1].original
    other.save(second.id, fooling(other, second.id), "")
    before = study.read_bytes()
    refused = post(client, csrf, f"/save/{first.id}?replaces=", to_rows(painting))
    assert (refused.status_code, refused.json["stale"]) == (409, True)
    assert study.read_bytes() == before
    painted = post(client, csrf, "/reload").json["painted"]
    assert set(painted) == {second.id}
    assert post(client, csrf, f"/save/{first.id}?replaces=", to_rows(painting)).status_code == 200
    assert {one.original for one in read_study(study).document.of("painted")} == {first.original, second.original}


def test_two_who_paint_the_same_original_do_not_overwrite_each_other(session, open_session, study, first, painting):
    other = open_session(study)
    other.save(first.id, painting, "")
    session.reload()
    with pytest.raises(Exception, match="painted or cleared elsewhere"):
        session.save(first.id, painting, "")


def test_of_two_saves_at_once_none_is_lost(session, open_session, study):
    sessions = [session, open_session(study)]
    items = session.items()
    paintings = {item.original.id: fooling(session, item.original.id) for item in items}
    refusals = []

    def paint(number: int) -> None:
        for item in items[number::2]:
            while True:
                try:
                    sessions[number].save(item.original.id, paintings[item.original.id], "")
                    break
                except Exception as refused:  # noqa: BLE001 - which it is, is asserted below
                    refusals.append(str(refused))
                    sessions[number].reload()

    workers = [threading.Thread(target=paint, args=(number,)) for number in (0, 1)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    assert all("somebody else has written" in text for text in refusals)
    assert len(read_study(study).document.of("painted")) == 4


def test_a_study_with_answers_is_frozen(session, open_session, enter, study, first, painting):
    client, csrf = enter(session)
    answers = study.with_name(f"{study.name}.answers.sqlite")
    answers.write_bytes(b"")
    before = study.read_bytes()
    refused = post(client, csrf, f"/save/{first.id}?replaces=", to_rows(painting))
    assert refused.status_code == 409
    assert answers.name in refused.json["error"]
    assert study.read_bytes() == before
    with pytest.raises(Exception, match="frozen") as caught:
        open_session(study)
    assert answers.name in str(caught.value)
    assert "--out" in str(caught.value)


@pytest.mark.parametrize("resampling", list(Resampling))
def test_it_is_judged_as_shown_at_every_size(tmp_path, make_study, open_session, resampling, monkeypatch):
    """What is classified correctly again after one size is lost: here a size that shows the original."""
    path = make_study(tmp_path / "sizes.study", resampling=resampling)
    session = open_session(path)
    first = session.items()[0].original
    painting = fooling(session, first.id)
    original = session.pixels(first.id)

    def shown(image, sizes, resampling):
        return {size: rendered(original if size == 4 else image, [size], resampling)[size] for size in sizes}

    monkeypatch.setattr("charpy_plugins.study.editor.session.rendered", shown)
    with pytest.raises(Exception, match=r"again as shown at size .*x4"):
        session.save(first.id, painting, "")
    assert read_study(path).document.of("painted") == ()


def test_the_preview_is_what_is_stored(session, enter, study, first, painting):
    client, csrf = enter(session)
    page = post(client, csrf, "/preview-x4.png", to_rows(painting))
    assert page.mimetype == "image/png"
    session.save(first.id, painting, "")
    assert page.data == session.image(session.items()[0].painted.id, 4)
    assert post(client, csrf, "/preview-x3.png", to_rows(painting)).status_code == 404


def test_the_gallery_shows_what_is_done(session, enter, first, painting):
    client, csrf = enter(session)
    assert client.get("/").get_data(as_text=True).count("to do</span>") == 4
    post(client, csrf, f"/save/{first.id}?replaces=", to_rows(painting))
    page = client.get("/").get_data(as_text=True)
    assert page.count("to do</span>") == 3
    new = session.items()[0].painted
    assert f"{new.distance:g}" in page
    assert f"read as {new.prediction}" in page
    assert client.get("/?show=done").get_data(as_text=True).count('alt="original"') == 1
    assert client.get("/?show=todo").get_data(as_text=True).count('alt="original"') == 3


def test_distances_of_the_page_are_those_of_the_judge(session, first, painting):
    look = session.look(first.id, painting)
    pair = session.pixels(first.id)[None], painting[None]
    assert look.distances.l0 == int(distances(Norm.L0, *pair))
    assert quantise(painting).equal(painting)
