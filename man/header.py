# SPDX-License-Identifier: MIT
"""Reads the public headers of client/include: what they declare and what their comments say of it.

They keep to one form (cached.h shows it), and what does not is an error here:

    /* name() - title
     * @argument:  text
     *
     * Text.
     *
     * Return: text                       */     a function, with its declaration after it
    /* ---- title                         */     begins a section; more text is about all of it
    /* text                               */     about the functions that follow, up to the next section
    /* name - title ...                   */     the same for a type of functions, with its typedef after it
    typedef struct name name; /* text     */
    #define NAME value /* text            */     a constant; a comment before it begins a group
"""

import dataclasses
import pathlib
import re


@dataclasses.dataclass
class Function:
    name: str
    title: str
    arguments: dict      # name: text, those that have one
    text: list           # paragraphs
    returns: str         # "" of a void function
    result: str          # type
    callback: str        # "(*name)" for a typedef of a pointer to functions; else ""
    parameters: list     # as declared
    header: str
    section: object
    note: list           # paragraphs of the comment about this one and its neighbours


@dataclasses.dataclass
class Section:
    title: str
    text: list
    functions: list = dataclasses.field(default_factory=list)


@dataclasses.dataclass
class Constant:
    name: str
    value: str
    text: str


@dataclasses.dataclass
class Header:
    name: str
    title: str
    text: list
    sections: list = dataclasses.field(default_factory=list)
    constants: list = dataclasses.field(default_factory=list)   # (text of the group, [Constant])
    types: dict = dataclasses.field(default_factory=dict)       # name: text

    @property
    def functions(self):
        return [f for s in self.sections for f in s.functions if not f.callback]

    @property
    def callbacks(self):
        return [f for s in self.sections for f in s.functions if f.callback]


class Malformed(Exception):
    pass


def lines_of(comment):
    """The text of a comment without its stars; what is indented stays so."""
    body = comment.removeprefix("/*").removesuffix("*/")
    return [re.sub(r"^\s*\* ?", "", line).rstrip() if i else line.strip()
            for i, line in enumerate(body.split("\n"))]


def paragraphs(lines):
    """Lists of lines, as the empty ones between them say."""
    out = [[]]
    for line in lines:
        if line.strip():
            out[-1].append(line)
        elif out[-1]:
            out.append([])
    return [p for p in out if p]


def joined(lines):
    return " ".join(line.strip() for line in lines)


def split_parameters(text):
    """At the commas that are in no parentheses of a function pointer."""
    out, depth = [""], 0
    for c in text:
        depth += (c == "(") - (c == ")")
        if c == "," and depth == 0:
            out.append("")
        else:
            out[-1] += c
    return [] if text.strip() == "void" else [p.strip() for p in out]


def parameter_name(declaration):
    pointer = re.search(r"\(\*\s*(\w+)\)", declaration)
    return pointer[1] if pointer else re.search(r"(\w+)(\[\w*\])?$", declaration)[1]


def argument_texts(blocks):
    """Takes the @argument lines out of the first block."""
    out, name = {}, None
    first, rest = blocks[0], blocks[1:]
    title = []
    for line in first:
        found = re.match(r"@(\w+):\s+(.*)", line.strip())
        if found:
            name = found[1]
            out[name] = [found[2]]
        elif name:
            out[name].append(line)
        else:
            title.append(line)
    return joined(title), {k: joined(v) for k, v in out.items()}, rest


def function(blocks, declaration, header, section, note):
    heading, arguments, rest = argument_texts(blocks)
    name, title = re.fullmatch(r"(\w+)(?:\(\))? - (.*)", heading).groups()
    declared = r"(.*?)(\(\*\w+\))\((.*)\)" if "(*" in declaration.partition(name)[0] else r"(.*?)(\w+)\((.*)\)"
    found = re.fullmatch(declared, " ".join(declaration.split()))
    if not found or found[2].strip("(*)") != name:
        raise Malformed(f"{header.name}: after the comment of {name} comes: {declaration.strip()}")
    result, parameters = found[1].strip(), split_parameters(found[3])
    unknown = set(arguments) - {parameter_name(p) for p in parameters}
    if unknown:
        raise Malformed(f"{header.name}: {name}: it has no {', '.join(sorted(unknown))}")
    text, returns = [], ""
    for block in rest:
        if block[0].startswith("Return: "):
            returns = joined(block).removeprefix("Return: ")
        else:
            text.append(block)
    if bool(returns) == (result.removeprefix("typedef ") == "void"):
        raise Malformed(f"{header.name}: {name}: what it returns is not told, or not to be told")
    callback = found[2] if found[2].startswith("(*") else ""
    return Function(name, title, arguments, text, returns, result, callback, parameters, header.name, section, note)


def constants(text):
    """Groups of #define in their order, each with the comment before it. An empty line ends a group."""
    groups = []
    for part in text.replace("\\\n", " ").split("\n\n"):
        found = re.findall(r"^#define (\w+)[ ]+([^/\n]+?)[ ]*(?:/\*(.*?)\*/)?$", part, re.M)
        about = re.match(r"/\*.*?\*/", part, re.S)
        if found:
            rows = [Constant(name, value, about.strip()) for name, value, about in found]
            groups.append((joined(lines_of(about[0])) if about else "", rows))
    return groups


def read(path):
    text = pathlib.Path(path).read_text()
    header = None
    note = []
    for found in re.finditer(r"^/\*.*?\*/", text, re.M | re.S):
        blocks = paragraphs(lines_of(found[0]))
        first = blocks[0][0].strip()
        if first.startswith("SPDX"):
            continue
        if header is None:
            header = Header(pathlib.Path(path).name, joined(blocks[0]), blocks[1:])
        elif first.startswith("---- "):
            header.sections.append(Section(joined(blocks[0]).removeprefix("---- "), blocks[1:]))
            note = []
        elif re.match(r"\w+\(\) - ", first) or (re.match(r"\w+ - ", first)
                                               and text[found.end():].lstrip().startswith("typedef ")):
            if not header.sections:
                header.sections.append(Section("types", []))
            section = header.sections[-1]
            declaration = text[found.end():text.index(";", found.end())]
            section.functions.append(function(blocks, declaration, header, section, note))
        elif header.sections:
            note = blocks
    if header is None:
        raise Malformed(f"{path}: no comment says what it is")
    header.constants = constants(text)
    for found in re.finditer(r"^typedef struct (\w+) \1;(?: */\*(.*?)\*/)?", text, re.M):
        header.types[found[1]] = (found[2] or "a type and its functions").strip()
    return header
