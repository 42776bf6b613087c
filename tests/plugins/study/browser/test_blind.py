"""Participants cannot know their condition: pages, addresses and headers are the same in every arm."""

from __future__ import annotations

import re

import pytest

MASKS = (
    (r'name="csrf_token" value="[^"]+"', "token"),
    (r"/stimulus/[0-9a-f]{16}-x", "image"),
    (r"\b[A-Z0-9]{4}(-[A-Z0-9]{4}){3}\b", "code"),
)
"""What differs between any two participants: drawn ids and codes that say nothing."""

CHANGING = ("set-cookie", "date", "content-length", "etag", "last-modified")


def masked(text: str) -> str:
    for pattern, name in MASKS:
        text = re.sub(pattern, name, text)
    return text


def session_of(visitor) -> list[str]:
    """Everything that a participant is sent, but the pixels: pages and headers, consent to thanks."""
    sent = []
    visitor.context.on("response", lambda response: sent.append(response))
    visitor.open().agree()
    pages = [visitor.page.content()]
    while visitor.at_question:
        visitor.answer(label=0, confidence=3)
        pages.append(visitor.page.content())
    headers = {
        f"{masked(one.url)} {one.status} " + str({k: v for k, v in one.headers.items() if k not in CHANGING})
        for one in sent
        if one.request.resource_type in ("document", "image")
    }
    return [*map(masked, pages), *sorted(headers)]


@pytest.fixture(scope="module")
def unchecked(serve, make_study):
    """Without attention checks, which ask for a label that is drawn for each participant."""
    return serve(make_study(questions=3, checks=0, sizes=(1, 2)))


@pytest.mark.slow
def test_pages_of_all_arms_are_the_same_but_for_drawn_ids(unchecked, visit):
    sessions = {}
    for _ in unchecked.study.document.conditions:
        told = session_of(visit(unchecked))
        sessions[unchecked.newest()[0].condition] = told
    assert len(sessions) == len(unchecked.study.document.conditions)
    first, *others = sessions.values()
    for other in others:
        assert other == first


def test_no_page_names_a_condition_an_original_or_what_the_model_says(unchecked, visit):
    visitor = visit(unchecked).open()
    told = visitor.page.content()
    visitor.agree()
    while visitor.at_question:
        told += visitor.page.content()
        for image in visitor.page.locator("main img").all():
            data = visitor.context.request.get(unchecked.url + (image.get_attribute("src") or ""))
            told += data.body().decode("latin-1") + str(data.headers)
        visitor.answer()
    told += visitor.page.content() + str(visitor.context.cookies())
    document = unchecked.study.document
    for condition in document.conditions:
        assert condition.name not in told
        assert condition.text not in told
    for word in ("one_pixel", "digits-cnn", "prediction", "witness", "painted", "adversarial", document.fingerprint):
        assert word not in told.lower()


def test_the_place_of_an_image_says_nothing(unchecked, visit):
    ids = [one.id for one in unchecked.study.document.stimuli]
    visitor = visit(unchecked).join().finish()
    shown = [row.stimulus for row in unchecked.newest()[1]]
    assert visitor.given
    assert len(set(shown)) == 3
    assert set(shown) <= set(ids)
    originals = {row.original for row in unchecked.newest()[1]}
    assert len(originals) == 3  # nobody sees one original twice
