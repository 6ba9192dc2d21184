#!/usr/bin/python3
# SPDX-License-Identifier: MIT
"""The pages of the library in section 3, made from the comments of its headers.

    library.py list HEADER...                            the names of the pages, one a line
    library.py write FOLDER STATUS EXAMPLE HEADER...     the pages; STATUS is proto/status.def

A page for each function, so that `man 3 cached_get` is about cached_get() and nothing else; one for each type that
has functions of its name, with all of these; and libcached(3) about what holds for all.
"""

import pathlib
import re
import sys

import header as headers
import mdoc
from mdoc import argument, blocks, capital, plain, prose, sentence, tags

DATE = "November 22, 2026"
OVERVIEW = "libcached"
LINK = "cc program.c $(pkg-config --cflags --libs cached)"
FILES = [
    ("/run/cached/cached.sock", "the system's daemon"),
    ("$XDG_RUNTIME_DIR/cached/cached.sock, /run/user/UID/cached/cached.sock, /tmp/cached-UID/cached.sock",
     "a user's own daemon"),
]


class Library:
    """All headers together."""

    def __init__(self, paths):
        self.headers = [headers.read(p) for p in paths]
        self.functions = [f for h in self.headers for f in h.functions]
        self.callbacks = [f for h in self.headers for f in h.callbacks]
        self.constants = [g for h in self.headers for g in h.constants]
        self.types = {t: h for h in self.headers for t in h.types if self.methods(t)}
        twice = {f.name for f in self.functions} & set(self.types)
        if twice:
            raise headers.Malformed(f"both a function and a type with functions of its name: {', '.join(twice)}")

    def methods(self, name):
        """The functions of a type. A longer type's name may begin like a shorter one's."""
        longer = [t for h in self.headers for t in h.types if t.startswith(name + "_")]
        return [f for f in self.functions if name != "cached" and f.name.startswith(name + "_")
                and not any(f.name.startswith(t + "_") for t in longer)]

    def pages(self):
        return sorted([f.name for f in self.functions + self.callbacks] + list(self.types) + [OVERVIEW])

    def about(self, name):
        """The header that a page speaks for: cached-key.h for cached_key."""
        return next((h for h in self.headers if h.name == name.replace("_", "-") + ".h"), None)


def page(name, title, *sections):
    out = f'.\\" SPDX-License-Identifier: MIT\n.Dd {DATE}\n.Dt {name.upper()} 3\n.Os\n'
    out += f".Sh NAME\n.Nm {name}\n.Nd {plain(title)}\n"
    return out + "".join(f".Sh {heading}\n{text}" for heading, text in sections if text)


def prototype(f):
    arguments = "".join(f".Fa {argument(p)}\n" for p in f.parameters) or ".Fa void\n"
    return f".Ft {argument(f.result)}\n.Fo {argument(f.callback or f.name)}\n{arguments}.Fc\n"


def see_also(library, this, *texts):
    """Every page that is named in the texts, the types in them, and the overview."""
    known = set(library.pages())
    words = set(re.findall(r"\w+", " ".join(texts))) & known
    names = sorted((words | {OVERVIEW}) - {this})
    return "".join(f".Xr {name} 3{' ,' if name != names[-1] else ''}\n" for name in names)


def headed(paragraphs):
    """An introduction: a paragraph that begins with `Words:` begins a part of that name."""
    parts = [(None, [])]
    for p in paragraphs:
        found = re.match(r"([A-Z][\w ]+): (.*)", p[0])
        if found and len(found[1].split()) <= 5:
            parts.append((found[1], [[capital(found[2])] + p[1:]]))
        else:
            parts[-1][1].append(p)
    return parts


def subsections(parts):
    return "".join((f".Ss {plain(title)}\n" if title else "") + blocks(text) for title, text in parts)


# ---- codes


def meanings(library, status):
    """{code: (number, words)}: the daemon's from proto/status.def, the library's from the header."""
    rows = re.findall(r'^STATUS\((\d+),\s*(\w+),\s*\d+,\s*"(.*)"\)', pathlib.Path(status).read_text(), re.M)
    words = {f"CACHED_{name}": text for _, name, text in rows}
    codes = [c for about, group in library.constants for c in group if about.startswith("Codes.")]
    missing = [c.name for c in codes if not c.text and c.name not in words]
    if missing or not codes:
        raise headers.Malformed(f"codes without a meaning: {', '.join(missing)}")
    return {c.name: (c.value, c.text or words[c.name]) for c in codes}


def code_list(codes, names, numbers=False):
    return tags([(f"Dv {n}" + (f" Pq {codes[n][0]}" if numbers else ""), prose(sentence(codes[n][1])))
                 for n in names], "Ds")


def errors_of(f, codes):
    """The failures that a function's comment names, by their full or their short names."""
    text = re.sub(r"(?<=[ ,])_([A-Z_]+)\b", r"CACHED_ERR_\1", f.returns)
    named = [n for n in codes if re.search(rf"\b{n}\b", text) and n not in ("CACHED_OK", "CACHED_NOT_FOUND")]
    out = code_list(codes, named) if named else ""
    if "common codes" in text:
        out += (".Pp\n" if out else "") + prose("The common codes, which every request may end with, are listed in "
                                                f"{OVERVIEW}(3).")
    return out


# ---- pages


def function_page(library, f, codes):
    text = prose(sentence(f.title))
    for more in (f.text, f.note):
        text += ".Pp\n" + blocks(more) if more else ""
    rows = [(f"Fa {argument(name)}", prose(sentence(words))) for name, words in f.arguments.items()]
    if rows:
        text += ".Pp\nThe arguments:\n" + tags(rows, max(f.arguments, key=len) + "x")
    text += ".Pp\n" + prose(f"What holds for all calls is in {OVERVIEW}(3): results, threads, fork, deadlines.")
    about = library.about(f.name)
    if about:
        heading = about.title.partition(": ")[0]
        text += f".Ss {plain(heading)}\n" + subsections(headed(about.text))
    mentioned = [f.title, f.returns, *f.arguments.values(), *f.parameters] + [" ".join(p) for p in f.text + f.note]
    kin = [t for t in library.types if f in library.methods(t)]
    return page(f.name, f.title,
                ("SYNOPSIS", f".In {f.header}\n{prototype(f)}"),
                ("DESCRIPTION", text),
                ("RETURN VALUE", prose(capital(f.returns)) if f.returns else "None.\n"),
                ("ERRORS", errors_of(f, codes)),
                ("SEE ALSO", see_also(library, f.name, *mentioned, *kin)))


def function_list(functions, with_text):
    """By sections, with what their comments say or without."""
    out, section = "", None
    for f in functions:
        if f.section is not section:
            out += (".El\n" if section else "") + f".Ss {plain(capital(f.section.title))}\n"
            section = f.section
            out += (blocks(section.text) if with_text else "") + ".Bl -tag -width Ds\n"
        out += f".It Xr {f.name} 3\n{prose(sentence(f.title))}"
    return out + ".El\n" if out else ""


def type_page(library, name):
    functions = library.methods(name)
    owner = library.types[name]
    about = library.about(name)
    notes = []
    for f in functions:
        if f.note and f.note not in notes:
            notes.append(f.note)
    text = subsections(headed(about.text)) if about else prose(sentence(owner.types[name]))
    text += "".join(".Pp\n" + blocks(n) for n in notes)
    constants = [g for g in owner.constants if about or any(c.name.startswith(name.upper() + "_") for c in g[1])]
    return page(name, owner.types[name],
                ("SYNOPSIS", f".In {owner.name}\n.Vt typedef struct {name} {name} ;\n" +
                 "".join(prototype(f) for f in functions)),
                ("DESCRIPTION", text),
                ("FUNCTIONS", function_list(functions, True)),
                ("CONSTANTS", constant_list(constants)),
                ("SEE ALSO", see_also(library, name, *(f.result for f in functions),
                                      *(p for f in functions for p in f.parameters))))


def constant_list(groups):
    out = ""
    for about, group in groups:
        if about.startswith("Codes."):
            continue
        rows = [(f"Dv {c.name} Pq {c.value.rstrip('u')}", prose(sentence(c.text)) if c.text else "") for c in group]
        out += (".Pp\n" if out and about else "") + (prose(about) if about else "")
        out += tags(rows, "Ds") if any(c.text for c in group) else tags(rows, "Ds -compact")
    return out


def overview_page(library, codes, example):
    main = library.about("cached")
    parts = headed(main.text)
    errors = [text for title, text in parts if title == "Errors"]
    types = [(f"Xr {t} 3" if t in library.types else f"Vt {t}", prose(sentence(words)))
             for h in library.headers for t, words in h.types.items()]
    types += [(f"Xr {f.name} 3", prose(sentence(f.title))) for f in library.callbacks]
    program = re.fullmatch(r"/\* SPDX.*?\*/\n(/\*\n.*?\*/)\n+(.*)", pathlib.Path(example).read_text(), re.S)
    about = [p for p in headers.paragraphs(headers.lines_of(program[1]))[1:]
             if not p[0].startswith(("Usage:", " "))]
    shared = [g for h in library.headers if not any(library.about(t) is h for t in library.types) for g in h.constants]
    return page(OVERVIEW, main.title.removeprefix(f"{OVERVIEW}: ").replace("`", ""),
                ("SYNOPSIS", f".In {main.name}\n" + mdoc.literal([LINK])),
                ("DESCRIPTION", subsections([p for p in parts if p[0] != "Errors"])),
                ("TYPES", tags(types, "Ds")),
                ("FUNCTIONS", function_list(library.functions, False)),
                ("CONSTANTS", constant_list(shared)),
                ("ENVIRONMENT", tags([("Ev CACHED_SOCKET", "The daemon's socket, and no other.\n"),
                                      ("Ev CACHED_WARM", "Names of caches, separated by colons: memoized functions "
                                       "compute their values anew.\n"),
                                      ("Ev XDG_RUNTIME_DIR", "Where the socket of a user's own daemon is.\n")], "Ds")),
                ("FILES", tags([(" , ".join(f"Pa {p}" for p in paths.split(", ")), prose(sentence(words)))
                                for paths, words in FILES], "Ds")),
                ("EXAMPLES", blocks(about) + mdoc.literal(program[2].rstrip().split("\n"))),
                ("ERRORS", "".join(blocks(e) for e in errors) + ".Pp\nAll codes:\n" +
                 code_list(codes, codes, numbers=True)),
                ("SEE ALSO", ".Xr cachectl 1 ,\n" + "".join(f".Xr {t} 3 ,\n" for t in sorted(library.types)) +
                 ".Xr cached 8\n"))


def write(folder, status, example, paths):
    library = Library(paths)
    codes = meanings(library, status)
    pages = {f.name: function_page(library, f, codes) for f in library.functions + library.callbacks}
    pages |= {t: type_page(library, t) for t in library.types}
    pages[OVERVIEW] = overview_page(library, codes, example)
    assert sorted(pages) == library.pages()
    for name, text in pages.items():
        (pathlib.Path(folder) / f"{name}.3").write_text(text)


def main():
    try:
        if sys.argv[1] == "list":
            print("\n".join(f"{name}.3" for name in Library(sys.argv[2:]).pages()))
        else:
            write(*sys.argv[2:5], sys.argv[5:])
    except headers.Malformed as e:
        sys.exit(str(e))


main()
