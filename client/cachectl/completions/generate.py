#!/usr/bin/python3
# SPDX-License-Identifier: MIT
"""generate.py CACHECTL CACHED FOLDER: writes the completions of both programs for bash, zsh and fish.

Verbs, options and words are read from `cachectl --help --json` and `cached --help`; what is completed for each
follows from the name that stands for its value: a FILE is a file, a CACHE is one of the daemon's.
"""

import json
import pathlib
import re
import subprocess
import sys

HERE = pathlib.Path(__file__).parent

# What a value is, by the name that stands for it. The rest is anything, and nothing is offered.
KINDS = {"FILE": "file", "PATH": "file", "CACHE": "cache", "COMMAND": "command"}
# Where the name alone does not say it: (verb, option or word).
SPECIAL = {("memo", "cache"): "cache", ("warm", "cache"): "cache", ("memo", "env"): "env",
           ("monitor", "kind"): "stored deleted cleared expired evicted policy refresh created left",
           ("config", "NAME"): "setting", ("cached", "log-level"): "error warning info debug"}


def kind(verb, name, value):
    """"file", "cache", "command", "env", "setting", words to choose from, or "" for anything."""
    if (verb, name) in SPECIAL:
        return SPECIAL[verb, name]
    if re.fullmatch(r"[a-z]+(\|[a-z]+)+", value):
        return value.replace("|", " ")
    found = [KINDS[part] for part in re.split(r"[|\W]+", value) if part in KINDS]
    return found[0] if found else ""


class Option:
    def __init__(self, verb, name, letter, value, text):
        self.name, self.letter, self.value, self.text = name, letter, value, text
        self.kind = kind(verb, name, value) if value else ""

    def spellings(self):
        return ([f"-{self.letter}"] if self.letter else []) + [f"--{self.name}"]


class Verb:
    def __init__(self, row):
        self.name, self.summary = row["name"], row["summary"]
        self.options = [Option(self.name, **o) for o in row["options"]]
        # `-- COMMAND…` is everything that follows.
        self.takes_command = "COMMAND" in row["synopsis"]
        words = [w for w in row["words"] if not self.takes_command or "COMMAND" not in w and w != "ARGUMENT"]
        self.words = [(w, kind(self.name, w, w)) for w in words]
        # `WORD… -- COMMAND…`: other words before the dashes; of a WORD with dots any number.
        self.words_first = self.takes_command and bool(self.words)
        self.repeats = self.words_first and f"{self.words[0][0]}…" in row["synopsis"]


def run(*command):
    return subprocess.run(command, check=True, capture_output=True, text=True, timeout=60).stdout


def cached_options(help_text):
    for letter, name, value, text in re.findall(r"^  (?:-(\w), |    )--([\w-]+)(?: ([A-Z]+))? +(\S.*)$", help_text, re.M):
        yield Option("cached", name, letter or None, value or None, re.sub(r"[;,]? default:$", "", text))


# ---- bash: `case` tables

def bash_options(options, verb):
    for o in options:
        if o.value:
            yield f"        {'|'.join(f'{verb}/{s}' for s in o.spellings())}) kind='{o.kind or 'any'}' ;;\n"


def bash(verbs, options):
    return {
        "VERBS": " ".join(v.name for v in verbs),
        "COMMAND_VERBS": "|".join(v.name for v in verbs if v.takes_command) or "-",
        "WORDS_FIRST": "|".join(v.name for v in verbs if v.words_first) or "-",
        "VALUES": "".join(bash_options(options, "*")) + "".join("".join(bash_options(v.options, v.name)) for v in verbs),
        "WORDS": "".join(f"        {v.name}/{'*' if v.repeats else i}) kind='{k}' ;;\n" for v in verbs
                         for i, (_, k) in enumerate(v.words) if k),
        "OPTIONS": "".join(f"        {v.name}) options='{' '.join(s for o in v.options for s in o.spellings())}' ;;\n"
                           for v in verbs if v.options),
        "GLOBALS": " ".join(s for o in options for s in o.spellings()),
    }


# ---- zsh: specifications for _arguments

def zsh_quote(text):
    return "'" + text.replace("'", "'\\''") + "'"


def zsh_text(text):
    return re.sub(r"([\[\]:\\])", r"\\\1", text)


ZSH = {"file": "_files", "cache": "_cachectl_caches", "setting": "_cachectl_settings", "": " ",
       "env": "_parameters -g '*export*'", "command": "_command_names -e"}


def zsh_action(kind_):
    return ZSH[kind_] if kind_ in ZSH else f"({kind_})"


def zsh_option(o):
    text = f"[{zsh_text(o.text)}]"
    value = f":{zsh_text(o.value)}:{zsh_action(o.kind)}" if o.value else ""
    long = f"--{o.name}{'=' if o.value else ''}"
    if not o.letter:
        return zsh_quote(long + text + value)
    short = f"-{o.letter}{'+' if o.value else ''}"
    both = f"(-{o.letter} --{o.name})"
    return f"{zsh_quote(both + short + text + value)} {zsh_quote(both + long + text + value)}"


def zsh_verb(v):
    specs = [zsh_option(o) for o in v.options]
    specs += [zsh_quote(f"{'*' if v.repeats else i}:{zsh_text(w)}:{zsh_action(k)}")
              for i, (w, k) in enumerate(v.words, 1)]
    if v.takes_command and not v.words_first:
        specs += ["'(-)1: :_command_names -e'", "'*:: :_normal'"]
    return f"    {v.name}) _arguments -s -S $globals {' '.join(specs)} ;;\n"


def zsh(verbs, options):
    return {
        "VERBS": "".join(f"    {zsh_quote(v.name + ':' + zsh_text(v.summary))}\n" for v in verbs),
        "GLOBALS": "".join(f"    {zsh_option(o)}\n" for o in options),
        "CASES": "".join(map(zsh_verb, verbs)),
        "WORDS_FIRST": "|".join(v.name for v in verbs if v.words_first) or "-",
    }


# ---- fish: one `complete` each

FISH = {"file": "-F", "cache": "-x -a '(__cachectl_caches)'", "setting": "-x -a '(__cachectl_settings)'",
        "env": "-x -a '(set -xn)'", "": "-x"}


def fish_quote(text):
    return "'" + text.replace("\\", "\\\\").replace("'", "\\'") + "'"


def fish_option(o, condition, program="cachectl"):
    letter = f" -s {o.letter}" if o.letter else ""
    value = ""
    if o.value:
        value = " -r " + (FISH[o.kind] if o.kind in FISH else f"-x -a {fish_quote(o.kind)}")
    return f"complete -c {program}{condition}{letter} -l {o.name}{value} -d {fish_quote(o.text)}\n"


def fish_words(v):
    for i, (_, k) in enumerate(v.words):
        if k:
            action = FISH[k].replace("-x ", "-f ") if k in FISH else f"-f -a {fish_quote(k)}"
            condition = f"__cachectl_in {v.name}" if v.repeats else f"__cachectl_at {v.name} {i}"
            yield f"complete -c cachectl -n '{condition}' {action}\n"


def fish(verbs, options):
    valued = {s for o in options for s in o.spellings() if o.value}
    flags = {s for o in options for s in o.spellings() if not o.value}
    for v in verbs:
        valued |= {s for o in v.options for s in o.spellings() if o.value}
        flags |= {s for o in v.options for s in o.spellings() if not o.value}
    if valued & flags:
        sys.exit(f"with a value in one verb, without in another: {valued & flags}")
    return {
        "VALUED": " ".join(sorted(valued)),
        "COMMAND_VERBS": " ".join(v.name for v in verbs if v.takes_command and not v.words_first) or "-",
        "WORDS_FIRST": " ".join(v.name for v in verbs if v.words_first) or "-",
        "VERBS": "".join(f"complete -c cachectl -n __cachectl_no_verb -f -a {v.name} -d {fish_quote(v.summary)}\n"
                         for v in verbs),
        "GLOBALS": "".join(fish_option(o, " -n __cachectl_options") for o in options),
        "OPTIONS": "".join(fish_option(o, f" -n '__cachectl_in {v.name}'") for v in verbs for o in v.options),
        "WORDS": "".join(line for v in verbs for line in fish_words(v)),
    }


# ---- cached: options only

def cached_bash(options):
    values = "".join(f"    {'|'.join(o.spellings())}) kind='{o.kind or 'any'}' ;;\n" for o in options if o.value)
    return {"VALUES": values, "OPTIONS": " ".join(s for o in options for s in o.spellings())}


def fill(template, values):
    """Each @NAME@ is replaced; one that stands alone on its line takes that line with it."""
    for name, text in values.items():
        assert f"@{name}@" in template, name
        template = template.replace(f"\n@{name}@\n", f"\n{text}").replace(f"@{name}@", text)
    left = re.findall(r"@[A-Z_]+@", template)
    assert not left, left
    return template


def parts(name):
    """The template of a shell: one for cachectl, one for cached, after lines that begin with %%."""
    _, cachectl, cached = re.split(r"^%% .*\n", (HERE / f"{name}.in").read_text(), flags=re.M)
    return cachectl, cached


def main():
    cachectl, cached, folder = sys.argv[1:]
    rows = json.loads(run(cachectl, "--json", "--help"))
    verbs = [Verb(row) for row in rows["verbs"]]
    options = [Option("", **o) for o in rows["options"]]
    daemon = list(cached_options(run(cached, "--help")))
    out = pathlib.Path(folder)
    for shell, name, make, make_cached in (
            ("bash", "{}", bash, cached_bash),
            ("zsh", "_{}", zsh, lambda o: {"OPTIONS": "".join(f"  {zsh_option(x)} \\\n" for x in o)}),
            ("fish", "{}.fish", fish, lambda o: {"OPTIONS": "".join(fish_option(x, "", "cached") for x in o)})):
        one, two = parts(shell)
        (out / name.format("cachectl")).write_text(fill(one, make(verbs, options)))
        (out / name.format("cached")).write_text(fill(two, make_cached(daemon)))


main()
