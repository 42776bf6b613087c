"""The documentation site: its pages in the folders that they link to each other in, and a check of what was built.

`python docs/staging.py stage` copies the pages, and what they link to, into build/docs, at the paths that they have in
the repository, so that one link serves both. `python docs/staging.py check` reads build/site: every link leads to a
file and to an anchor in it, and nothing is asked of another host.
"""

from __future__ import annotations

import re
import shutil
import sys
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urlsplit

ROOT = Path(__file__).resolve().parents[1]
STAGED, SITE = ROOT / "build" / "docs", ROOT / "build" / "site"

PAGES = ("docs/**/*.md", "CONTRIBUTING.md", "CHANGELOG.md", "benchmarks/results/*.md", "examples/*.md")
THEME = "docs/images/*"  # named by zensical.toml, not by a page
RENAMED = {"README.md": "index.md", "tests/third_party/README.md": "tests/third_party/index.md"}

LINK = re.compile(r"(?<=\]\()(?!https?://|#)([^)#\s]+)")
LOADS = {
    "script": "src",
    "img": "src",
    "link": "href",
    "iframe": "src",
    "source": "src",
    "video": "src",
    "audio": "src",
}
STYLE_LOADS = re.compile(r"""url\(\s*["']?(?:https?:)?//|@import\s+["'](?:https?:)?//""")


def stage() -> None:
    """Copy what the site is made of to build/docs."""
    shutil.rmtree(STAGED, ignore_errors=True)
    pages = {path.relative_to(ROOT).as_posix() for pattern in PAGES for path in ROOT.glob(pattern)} | RENAMED.keys()
    files = {path.relative_to(ROOT).as_posix() for path in ROOT.glob(THEME)}
    for name in sorted(pages):
        text = (ROOT / name).read_text(encoding="utf-8")
        target = STAGED / RENAMED.get(name, name)
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_text(relinked(text, name), encoding="utf-8")
        files |= linked(text, name) - pages
    for name in sorted(files):
        (STAGED / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(ROOT / name, STAGED / name)


def linked(text: str, name: str) -> set[str]:
    """The files of the repository that `text` of the page `name` links to or shows."""
    paths = [((ROOT / name).parent / unquote(link)).resolve() for link in LINK.findall(text)]
    return {path.relative_to(ROOT).as_posix() for path in paths if path.is_file() and path.is_relative_to(ROOT)}


def relinked(text: str, name: str) -> str:
    """`text` of the page `name` with links to folders, and to pages of another name on the site, led to these pages."""

    def moved(match: re.Match[str]) -> str:
        path = ((ROOT / name).parent / match[1]).resolve()
        page = path / "README.md" if path.is_dir() else path
        renamed = RENAMED.get(page.relative_to(ROOT).as_posix()) if page.is_relative_to(ROOT) else None
        if renamed is None:
            return match[1]
        up = len(Path(name).parent.parts) if name not in RENAMED else len(Path(RENAMED[name]).parent.parts)
        return "../" * up + renamed

    return LINK.sub(moved, text)


class Page(HTMLParser):
    """The anchors, links and loaded files of one built page."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.anchors: set[str] = set()
        self.links: list[str] = []
        self.loads: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """Note what a tag names."""
        values = {key: value or "" for key, value in attrs}
        self.anchors |= {values[key] for key in ("id", "name") if key in values}
        if tag == "a" and "href" in values:
            self.links.append(values["href"])
        if tag in LOADS and LOADS[tag] in values and values.get("rel") != "canonical":
            self.loads.append(values[LOADS[tag]])


def problems(site: Path) -> list[str]:
    """What is wrong with the site that was built into `site`, one line each."""
    pages = {path.resolve(): Page(path.read_text(encoding="utf-8")) for path in sorted(site.rglob("*.html"))}
    found = [] if pages else [f"{site}: no page"]
    for path, page in pages.items():
        where = path.relative_to(site.resolve())
        for target in [*page.links, *page.loads]:
            parts = urlsplit(target)
            if parts.scheme in ("data", "mailto"):
                continue
            if parts.scheme or parts.netloc:
                found += [f"{where}: loads {target}"] if target in page.loads else []
                continue
            file = (path.parent / unquote(parts.path)).resolve() if parts.path else path
            if where.name == "404.html":  # its links are absolute
                continue
            if not file.is_file():
                found.append(f"{where}: no file behind {target}")
            elif parts.fragment and file in pages and unquote(parts.fragment) not in pages[file].anchors:
                found.append(f"{where}: no anchor behind {target}")
    for path in sorted(site.rglob("*.css")):
        if STYLE_LOADS.search(path.read_text(encoding="utf-8")):
            found.append(f"{path.relative_to(site)}: loads from another host")
    return found


def main() -> int:
    """Do what is asked for; the exit code is 1 where the check finds something."""
    if sys.argv[1:] == ["stage"]:
        stage()
        return 0
    if sys.argv[1:] == ["check"]:
        found = problems(SITE)
        print(*found, f"{len(found)} problems in {SITE}", sep="\n")
        return 1 if found else 0
    print("usage: python docs/staging.py stage | check", file=sys.stderr)
    return 2


if __name__ == "__main__":
    sys.exit(main())
