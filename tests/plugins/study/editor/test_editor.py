"""The pages of the editor, asked by a client without a browser: who may ask, and what a save does to the study."""

from __future__ import annotations

import io
import threading

import numpy as np
import pytest
import torch
from PIL import Image

from charpy.pixels import distances, quantise
from charpy.plugins import registry
from charpy.threat import Norm
from charpy_plugins.study.document import Kind, Resampling
from charpy_plugins.study.editor.display import from_rows, rendered, to_rows
from charpy_plugins.study.studyfile import read_study

RAW = "application/octet-stream"
HOST = "localhost"


def post(client, csrf, address, data=b"", kind=RAW, **headers):
    return client.post(address, data=data, content_type=kind, headers={"X-CSRFToken": csrf, **headers})


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


def test_a_study_that_somebody_else_has_written_is_refused_until_it_is_read_again(
    fooling, session, open_session, enter, study, first, painting
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


def test_of_two_saves_at_once_none_is_lost(fooling, session, open_session, study):
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
def test_it_is_judged_as_shown_at_every_size(fooling, tmp_path, make_study, open_session, resampling, monkeypatch):
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
