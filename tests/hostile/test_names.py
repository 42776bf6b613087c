"""Row 35 of the hostile inputs: names that are markup, formulas, escape sequences or that turn the text around.

Every name that a stranger can choose - of a run, a model, an attack, a class, a file - holds the payload at once; the
page, the terminal, the Markdown and the JSON of the run must show it as text.
"""

from __future__ import annotations

import html
import json
import re
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

NAMES = {
    "the end of a script": "</script><script>alert(1)</script>",
    "an image that fails": "<img src=x onerror=alert(1)>",
    "a style": "</style><style>*{display:none}",
    "an attribute": '"onmouseover="alert(1)',
    "a template": "{{ 7 * 7 }}{% raw %}",
    "a formula": "=cmd('calc')!A1",
    "another formula": "+1-2@SUM(1)",
    "an escape sequence": "\x1b[31mred\x1b]0;title\x07",
    "a mark from right to left": "safe\u202egnp.exe",
    "an isolate": "a\u2066b\u2069c\u200bd",
    "Markdown": "|a|`b`|[x](javascript:alert(1))|",
    "terminal markup": "[bold red]x[/bold red][link=http://evil.example]y",
    "a format": "%s%n{0}{__class__}",
}
HIDDEN = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u200b-\u200f\u202a-\u202e\u2066-\u2069]")


@pytest.mark.parametrize("case", NAMES)
def test_a_name_stays_text(charpy, folder, case):
    name = NAMES[case]
    kind = name.replace("/", "\u2215")  # no file system has it in a file name
    for number, label in enumerate((kind, "zz")):
        (folder / "pictures" / label).mkdir(parents=True)
        for copy in range(2):
            pixels = np.random.default_rng(copy).integers(0, 50, (6, 6)) + 77 + 51 * number
            Image.fromarray(pixels.astype(np.uint8)).save(folder / "pictures" / label / f"{kind[:40]}{copy}.png")
    spec = {
        "name": name,
        "data": {"kind": "folder", "params": {"path": "pictures"}},
        "models": [{"name": name, "reference": "brightness"}],
        "threats": [
            {"norm": "l0", "levels": [12], "queries": 40, "battery": [{"kind": "corner_pixels", "name": name}]}
        ],
        "certify": {"certifiers": []},
    }
    (folder / "spec.json").write_text(json.dumps(spec))
    code, out, err = charpy("run", "spec.json", "--out", "out")
    assert code == 0, err
    assert not HIDDEN.search(out + err)
    page = Path("out/report.html").read_text(encoding="utf-8")
    assert not HIDDEN.search(page)
    for piece in ("<script>alert", "<img src=x", "<style>*{", '"onmouseover="', 'javascript:alert(1)"'):
        assert piece not in page
    shown = "".join(f"[U+{ord(char):04X}]" if HIDDEN.match(char) else char for char in name)
    assert shown in html.unescape(page)
    assert json.loads(Path("out/report.json").read_text(encoding="utf-8"))["model"]["name"] == name


@pytest.mark.parametrize(
    "case", ["an escape sequence", "a mark from right to left", "the end of a script", "terminal markup"]
)
def test_a_name_in_a_complaint_stays_text(charpy, case):
    """The names of files and of fields of a spec, where they are refused."""
    name = NAMES[case]
    for arguments in (("assess", f"{name}.onnx", "--data", "shades"), ("assess", "brightness", "--data", name)):
        code, out, err = charpy(*arguments, "--out", "out")
        assert code == 2
        assert not out
        assert not HIDDEN.search(err)
        assert not Path("out").exists()
