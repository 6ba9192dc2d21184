#!/usr/bin/python3
# SPDX-License-Identifier: MIT
"""Fills the templates of the manual pages (mdoc).

    generate.py verbs TEMPLATE CACHECTL PAGE      from `cachectl --json --help`
    generate.py settings TEMPLATE CONF PAGE DIR   from conf/cached.conf; DIR is @sysconfdir@ in TEMPLATE
"""

import json
import pathlib
import re
import subprocess
import sys

from mdoc import CLOSING, argument, escape


def prose(text):
    """Paragraphs; what stands between backquotes is literal."""
    return ".Pp\n".join(paragraph(p) for p in re.split(r"\n\s*\n", text))


def paragraph(text):
    out = []
    parts = " ".join(text.split()).split("`")
    for i, part in enumerate(parts):
        if i % 2:
            after = re.match(f"[{CLOSING}]*", parts[i + 1])[0]
            parts[i + 1] = parts[i + 1][len(after):]
            before = ""
            if out and out[-1].endswith("("):
                out[-1], before = out[-1][:-1].rstrip(), "( "
            out.append(f".Ql {before}{argument(part)}{''.join(' ' + c for c in after)}")
        elif part.strip():
            # A new sentence begins on a new line.
            out += [escape(s) for s in re.split(r"(?<=[.!?]) (?=[A-Z`])", part.strip())]
    return "".join(line + "\n" for line in out if line)


def option(o):
    value = f" Ar {argument(o['value'])}" if o["value"] else ""
    short = f"Fl {o['letter']}{value} , " if o["letter"] else ""
    return f".It {short}Fl \\-{escape(o['name'])}{value}\n{prose(sentence(o['text']))}"


def sentence(text):
    return text[0].upper() + text[1:] + ("" if text.endswith(".") else ".")


def options(rows):
    return ".Bl -tag -width Ds\n" + "".join(map(option, rows)) + ".El\n" if rows else ""


def synopsis(text):
    """The words of a usage line as macros."""
    out = []
    for token in re.findall(r"\[|\]|\||…|--?[\w-]+|[^\s\[\]|…]+", text.replace("FILE|-", "FILE")):
        if token == "[":
            out.append("Oo")
        elif token == "]":
            out.append("Oc")
        elif token == "|":
            out.append("No \\&|")
        elif token == "…":
            out.append("Ns No ...")
        elif token in ("-", "--"):
            out.append("No " + escape(token))
        elif token.startswith("-"):
            out.append(f"Fl {escape(token[1:])}")
        elif token.isupper():
            out.append(f"Ar {argument(token)}")
        else:
            out.append(f"Cm {argument(token)}")
    return " ".join(out)


def example(text):
    lines = "\n".join(escape(line.strip()) for line in text.splitlines())
    return f".Pp\n.Dl {lines}\n" if "\n" not in lines else f".Bd -literal -offset indent\n{lines}\n.Ed\n"


def verb(v):
    usage = synopsis(v["synopsis"])
    about = f".Pp\n{prose(v['about'])}" if v["about"] else ""
    return (f".It Ic {argument(v['name'])}{' ' + usage if usage else ''}\n{prose(sentence(v['summary']))}"
            f"{about}{options(v['options'])}{example(v['example'])}")


def verbs(program):
    rows = json.loads(subprocess.run([program, "--json", "--help"], check=True, capture_output=True, timeout=60).stdout)
    return {"OPTIONS": options(rows["options"]),
            "VERBS": ".Bl -tag -width Ds\n" + "".join(map(verb, rows["verbs"])) + ".El\n"}


def settings(conf):
    """[section], then comments and `#name = default`; the first paragraph of a section may be about all of it."""
    out, words = [], []
    text = pathlib.Path(conf).read_text().split("\n# A realm that several users share")[0]
    for line in text.splitlines():
        section, setting = re.fullmatch(r"\[(\w+)\]", line), re.fullmatch(r"#(\w+) =\s*(.*)", line)
        if section:
            out.append((".El\n" if out else "") + f".Ss The section [{section[1]}]\n")
            words, waiting = [], True
        elif setting:
            if waiting:
                out.append(".Bl -tag -width Ds\n")
                waiting = False
            default = argument(f"(default: {setting[2] or 'empty'})")
            out.append(f".It Ic {setting[1]} No {default}\n{prose(sentence(' '.join(words)))}")
            words = []
        elif line.startswith("# "):
            words.append(line[2:])
        elif not line and words and out and waiting:
            out.append(prose(" ".join(words)))
            words = []
    return {"SETTINGS": "".join(out) + ".El\n"}


def main():
    kind, template, source, page, *sysconfdir = sys.argv[1:]
    text = pathlib.Path(template).read_text()
    for folder in sysconfdir:
        text = text.replace("@sysconfdir@", folder)
    for name, value in {"verbs": verbs, "settings": settings}[kind](source).items():
        assert f"\n@{name}@\n" in text
        text = text.replace(f"\n@{name}@\n", f"\n{value}")
    pathlib.Path(page).write_text(text)


main()
