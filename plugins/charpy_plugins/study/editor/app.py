"""The pages of `charpy study edit`: a gallery of originals, and an editor for one of them."""

from __future__ import annotations

import hmac
import secrets
import threading
from collections.abc import Collection
from typing import Any

import torch
from flask import Flask, Response, abort, jsonify, redirect, render_template, request, session, url_for
from flask_wtf.csrf import CSRFProtect
from werkzeug.exceptions import HTTPException
from werkzeug.wrappers import Response as AnyResponse

from charpy.errors import DataError
from charpy.reports.inert import visible
from charpy_plugins.study.editor.display import from_png, from_rows, rendered, to_rows
from charpy_plugins.study.editor.session import EditSession, Item, Look, RefusedError

HEADERS = {
    "Content-Security-Policy": "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; "
    "connect-src 'self'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'",
    "Cache-Control": "no-store",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Permissions-Policy": "camera=(), geolocation=(), microphone=()",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
}

SPARE = 16 * 1024
"""Bytes that a request may have beyond an image: PNG overhead, form fields."""

OPEN = frozenset({"enter", "static"})
"""What needs no cookie."""


class OnceToken:
    """A secret that opens the pages once."""

    def __init__(self) -> None:
        self.text = secrets.token_urlsafe(24)
        self._unused = True
        self._lock = threading.Lock()

    def take(self, offered: str) -> bool:
        """Whether `offered` is the secret, used for the first time."""
        with self._lock:
            right = self._unused and hmac.compare_digest(offered.encode(), self.text.encode())
            self._unused = self._unused and not right
            return right


def largest_body(edit: EditSession) -> int:
    """Bytes of the largest request: an RGBA image of the study, or its PNG."""
    _, height, width = edit.shape
    return 4 * height * width + height + SPARE


def create_app(edit: EditSession, token: OnceToken, hosts: Collection[str], *, cookie: str = "charpy_edit") -> Flask:
    """The application; `hosts` are the values of the Host header that it answers to."""
    app = Flask(__name__)
    app.config.update(
        SECRET_KEY=secrets.token_bytes(32),
        MAX_CONTENT_LENGTH=largest_body(edit),
        SESSION_COOKIE_NAME=cookie,
        SESSION_COOKIE_HTTPONLY=True,
        SESSION_COOKIE_SAMESITE="Strict",
        WTF_CSRF_TIME_LIMIT=None,
        WTF_CSRF_METHODS=["POST", "PUT", "PATCH", "DELETE"],
    )
    app.jinja_env.filters["visible"] = visible
    _guard(app, token, frozenset(host.lower() for host in hosts))
    CSRFProtect(app)
    _pages(app, edit)
    _requests(app, edit)
    return app


def _guard(app: Flask, token: OnceToken, hosts: frozenset[str]) -> None:
    @app.before_request
    def _known_host_and_visitor() -> None:
        if request.host.lower() not in hosts:
            abort(403, "this page answers to its own address only")
        if request.endpoint not in OPEN and not session.get("entered"):
            abort(401, "open the address that `charpy study edit` has printed; it works once, in one browser")

    @app.get("/enter/<offered>")
    def enter(offered: str) -> AnyResponse:
        if not session.get("entered"):
            if not token.take(offered):
                abort(401, "this address was used already, or is not the one that `charpy study edit` has printed")
            session["entered"] = True
        return redirect(url_for("gallery"), 303)

    @app.after_request
    def _with_headers(response: Response) -> Response:
        response.headers.update(HEADERS)
        return response

    @app.errorhandler(HTTPException)
    def _say(error: HTTPException) -> tuple[Any, int]:
        return _complaint(error.code or 500, str(error.description))

    @app.errorhandler(RefusedError)
    def _refuse(error: RefusedError) -> tuple[Any, int]:
        return _complaint(error.status, str(error), stale=error.stale)

    @app.errorhandler(DataError)
    def _unusable(error: DataError) -> tuple[Any, int]:
        return _complaint(400, str(error))


def _complaint(status: int, text: str, *, stale: bool = False) -> tuple[Any, int]:
    if request.method == "GET":
        return render_template("error.html", status=status, text=text), status
    return jsonify(error=visible(text, keep="\n"), stale=stale), status


def _pages(app: Flask, edit: EditSession) -> None:
    @app.context_processor
    def _study() -> dict[str, Any]:
        return {"document": edit.document, "condition": edit.name, "limit": edit.limit, "model": edit.model}

    @app.template_global()
    def label_of(number: int | None) -> str:
        return "no answer" if number is None or number < 0 else _name(edit, number)

    @app.get("/")
    def gallery() -> str:
        items = edit.items()
        show = request.args.get("show", "all")
        chosen = [item for item in items if show not in {"todo", "done"} or (item.painted is None) == (show == "todo")]
        done = sum(item.painted is not None for item in items)
        return render_template("gallery.html", items=chosen, show=show, done=done, total=len(items))

    @app.get("/paint/<stimulus>")
    def paint(stimulus: str) -> str:
        items = edit.items()
        item = edit.item(stimulus)
        place = items.index(item)
        following = _next(items, place)
        channels, height, width = edit.shape
        data = {
            "channels": channels,
            "height": height,
            "width": width,
            "original": item.original.id,
            "painted": item.painted.id if item.painted is not None else "",
            "label": item.original.label,
            "norm": edit.limit.norm,
            "level": edit.limit.level,
            "sizes": " ".join(map(str, edit.document.sizes)),
            "nearest": "yes" if edit.document.resampling == "nearest" else "no",
            "next": url_for("paint", stimulus=following.original.id) if following is not None else "",
        }
        around = {
            "before": items[place - 1] if place else None,
            "after": items[place + 1] if place + 1 < len(items) else None,
        }
        return render_template("paint.html", item=item, place=place + 1, total=len(items), data=data, **around)

    @app.get("/image/<stimulus>-x<int:size>.png")
    def image(stimulus: str, size: int) -> Response:
        return Response(edit.image(stimulus, size), mimetype="image/png")

    @app.get("/pixels/<stimulus>")
    def pixels(stimulus: str) -> Response:
        return Response(to_rows(edit.pixels(stimulus)), mimetype="application/octet-stream")


def _requests(app: Flask, edit: EditSession) -> None:
    @app.post("/score/<stimulus>")
    def score(stimulus: str) -> Response:
        return jsonify(_told(edit, edit.look(stimulus, _posted(edit))))

    @app.post("/preview-x<int:size>.png")
    def preview(size: int) -> Response:
        if size not in edit.document.sizes:
            abort(404, "no such size in this study")
        page = rendered(_posted(edit), [size], edit.document.resampling)[size]
        return Response(page, mimetype="image/png")

    @app.post("/save/<stimulus>")
    def save(stimulus: str) -> Response:
        new = edit.save(stimulus, _posted(edit), request.args.get("replaces", ""))
        items = edit.items()
        left = sum(item.painted is None for item in items)
        return jsonify(stimulus=new.id, prediction=_name(edit, new.prediction), distance=new.distance, left=left)

    @app.post("/delete/<stimulus>")
    def delete(stimulus: str) -> Response:
        edit.delete(stimulus, request.args.get("painted", ""))
        return jsonify(left=sum(item.painted is None for item in edit.items()))

    @app.post("/reload")
    def reload() -> Response:
        edit.reload()
        return jsonify(painted={item.original.id: item.painted.id for item in edit.items() if item.painted})


def _posted(edit: EditSession) -> torch.Tensor:
    """The image in the body: a PNG, or raw bytes `(H, W, C)`."""
    data = request.get_data(cache=False)
    if request.mimetype not in {"image/png", "application/octet-stream"}:
        abort(415, "an image is needed: image/png, or application/octet-stream with its raw values")
    return (from_png if request.mimetype == "image/png" else from_rows)(data, edit.shape)


def _told(edit: EditSession, look: Look) -> dict[str, Any]:
    answer = look.answer
    shares = None
    if answer.shares is not None:
        shares = [{"name": _name(edit, place), "share": share} for place, share in enumerate(answer.shares)]
    return {
        "prediction": answer.prediction,
        "name": _name(edit, answer.prediction) if answer.prediction >= 0 else "",
        "shares": shares,
        "lead": answer.lead,
        "l0": look.distances.l0,
        "l2": look.distances.l2,
        "linf": look.distances.linf,
        "distance": look.distance,
        "hindrance": look.hindrance,
    }


def _name(edit: EditSession, number: int | None) -> str:
    labels = edit.document.labels
    return visible(labels[number]) if number is not None and number < len(labels) else f"class {number}"


def _next(items: list[Item], place: int) -> Item | None:
    """The next original without a stimulus, from the start again after the last one."""
    return next((item for item in items[place + 1 :] + items[:place] if item.painted is None), None)
