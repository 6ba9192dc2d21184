# SPDX-License-Identifier: MIT
"""Plain text as mdoc, the macros of manual pages."""

import re
import textwrap

CLOSING = ".,;:)?!"

# What a word may be, and its macro. The first that fits counts.
WORDS = [
    (r"`([^`]+)`", "Ql"),
    (r"\*(\w+)\*", "Em"),
    (r"@(\w+)", "Fa"),
    (r"(\w+)\(\)", "Fn"),
    (r"(\w+\([1-8]\))", "Xr"),
    (r"(CACHED_[A-Z0-9_]+\*?|NULL|U?INT\d+_MAX)", "Dv"),
    (r"(\$?/?(?:[\w.-]+/)+(?:[\w.-]*\w)?)", "Pa"),
    (r"\$(\w+)", "Ev"),
]


def escape(text):
    """Plain text: no escapes, no macro at the start of a line, an ASCII form of what pages should not rely on."""
    text = text.replace("\\", "\\e").replace("…", "...").replace("-", "\\-")
    return re.sub(r"^([.'])", r"\\&\1", text)


def argument(text):
    """One argument of a macro."""
    text = escape(text)
    text = "\\&" + text if re.fullmatch(r"[A-Z][a-z]|[.,;:()\[\]?!|]", text) else text
    return '"' + text.replace('"', '""') + '"' if " " in text or '"' in text else text


def plain(text):
    """A line of a macro that takes words as they are: each that could be a macro or a delimiter is guarded."""
    return " ".join(argument(word) for word in text.replace("`", "").split())


def literal(lines):
    """Code: what is typed is what is shown."""
    out = []
    for line in lines:
        line = escape(line.rstrip()).replace("`", "\\(ga").replace("^", "\\(ha").replace("~", "\\(ti")
        out.append(re.sub(r"(?<!^\\&)'", r"\\(aq", line))
    return ".Bd -literal -offset indent\n" + "".join(line + "\n" for line in out) + ".Ed\n"


def macro(word):
    """The line for a word that is more than plain text; None for others."""
    lead, rest = re.fullmatch(r"([(\[\"]*)(.*)", word).groups()
    for pattern, name in WORDS:
        found = re.match(pattern, rest)
        if not found:
            continue
        trail = rest[found.end():]
        if trail and not re.match(r"\W", trail):
            continue
        value = found[1]
        words = [f'No {argument(lead)} Ns'] if lead else []
        if name == "Xr":
            words.append("Xr " + value.rstrip(")").replace("(", " "))
        else:
            words.append(f"{name} {argument(value)}")
        if all(c in CLOSING for c in trail):
            words += list(trail)
        else:
            words.append(f"Ns No {argument(trail)}")
        return "." + " ".join(words)
    return None


def sentence(text):
    return capital(text) + ("" if text.endswith(".") else ".")


def capital(text):
    return text[0].upper() + text[1:] if re.match(r"[a-z]+([ ,;:.]|'s|$)", text) else text


def prose(text):
    """A paragraph. Functions, @arguments, constants, `literals`, paths and variables get their macros."""
    out, line = [], []

    def flush():
        if line:
            out.extend(escape(part) for part in textwrap.wrap(" ".join(line), 76, break_long_words=False,
                                                              break_on_hyphens=False))
            line.clear()

    for word in re.findall(r"(?:[^\s`]|`[^`]*`)+", text):
        as_macro = macro(word)
        if as_macro:
            flush()
            out.append(as_macro)
            continue
        if line and re.search(r"[.!?][\")]*$", line[-1]) and re.match(r"[\"(]?[A-Z0-9]", word):
            flush()   # a new sentence begins on a new line
        line.append(word)
    flush()
    return "".join(line + "\n" for line in out)


def block(lines):
    """One paragraph of a comment: code where it is indented, a numbered list, or prose."""
    if all(line.startswith(" " * 6) for line in lines):
        indent = min(len(line) - len(line.lstrip()) for line in lines)
        return literal([line[indent:] for line in lines])
    if re.match(r"\s+\d+\. ", lines[0]):
        items = re.split(r"(?:^|\s)\d+\. ", " ".join(line.strip() for line in lines))[1:]
        return ".Bl -enum\n" + "".join(f".It\n{prose(capital(i))}" for i in items) + ".El\n"
    return prose(" ".join(line.strip() for line in lines))


def blocks(paragraphs):
    """Paragraphs, apart from each other; what displays itself needs no mark before it."""
    out = ""
    for p in paragraphs:
        text = block(p)
        out += (".Pp\n" if out and not text.startswith((".Bl", ".Bd")) else "") + text
    return out


def tags(rows, width):
    """A list of (macro line without .It, paragraph)."""
    return f".Bl -tag -width {width}\n" + "".join(f".It {head}\n{text}" for head, text in rows) + ".El\n"
