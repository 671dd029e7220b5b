"""HTML that cannot hold unescaped text: what is no `Html` is escaped when it is put into a tag."""

from html import escape

VOID = ("meta", "br")  # tags without an end
# Control characters have no place in HTML: their pictures stand for them. So do halves of surrogate pairs.
_SHOWN = {code: 0x2400 + code for code in range(32) if chr(code) not in "\n\t"} | {127: 0x2421}
_SHOWN |= dict.fromkeys(range(0xD800, 0xE000), 0xFFFD)


class Html(str):
    """Text that is HTML already."""

    __slots__ = ()


def text(value: str) -> Html:
    """`value` as HTML that shows it as it is."""
    return value if isinstance(value, Html) else Html(escape(value.translate(_SHOWN)))


def join(parts: list[Html]) -> Html:
    return Html("".join(parts))


def tag(kind: str, /, *children: str, **attributes: str | float) -> Html:
    """`<kind attributes>children</kind>`. `class_` is class; other underscores are hyphens."""
    given = "".join(f' {key.rstrip("_").replace("_", "-")}="{text(str(value))}"' for key, value in attributes.items())
    inside = "".join(text(child) for child in children)
    return Html(f"<{kind}{given}>" if kind in VOID else f"<{kind}{given}>{inside}</{kind}>")


def table(head: list[str], rows: list[list[str]], numbers_from: int = 1) -> Html:
    """A table that scrolls sideways where the screen is narrow; columns from `numbers_from` on stand on the right."""

    def line(kind: str, cells: list[str]) -> Html:
        return tag("tr", *(tag(kind, c, class_="n" if i >= numbers_from else "t") for i, c in enumerate(cells)))

    body = tag("tbody", *(line("td", row) for row in rows))
    return tag("div", tag("table", tag("thead", line("th", head)), body), class_="scroll")
