# SPDX-License-Identifier: MIT
"""Completions: what the shells themselves offer, for every verb and option that --help knows.

bash and fish are asked for their candidates; zsh, and bash once, are driven by the Tab key on a pseudo-terminal.
"""

import json
import os
import pty
import re
import select
import shutil
import subprocess
import tempfile
import time

import pytest

import harness
from cachectl import CACHECTL, environment, needs_cachectl

FOLDER = harness.BUILD / "client" / "cachectl" / "completions"
PATIENCE = harness.PATIENCE

pytestmark = [needs_cachectl,
              pytest.mark.skipif(not FOLDER.exists(), reason="this build made no completions")]


def needs(shell):
    return pytest.mark.skipif(not shutil.which(shell), reason=f"{shell} is not installed")


def env(daemon=None, **more):
    folders = f"{CACHECTL.parent}:{harness.BINARY.parent}:{os.environ['PATH']}"
    if daemon:
        more["CACHED_SOCKET"] = str(daemon.socket)
    return environment(PATH=folders, HOME=tempfile.gettempdir() + "/cached-no-home", **more)


def the_help():
    return json.loads(subprocess.run([CACHECTL, "--json", "--help"], capture_output=True, check=True).stdout)


HELP = the_help() if CACHECTL.exists() else {"verbs": [], "options": []}
VERBS = {v["name"]: v for v in HELP["verbs"]}


def spellings(options):
    return {f"--{o['name']}" for o in options} | {f"-{o['letter']}" for o in options if o["letter"]}


BASH = """
source "$1"; shift
program=$1
COMP_WORDS=("$@"); COMP_CWORD=$(($# - 1)); COMP_LINE="$*"; COMP_POINT=${#COMP_LINE}
"_$program"
printf '%s\\n' "${COMPREPLY[@]}"
"""


def bash(*words, e=None, **more):
    """What bash offers for the last of the words (as bash splits them)."""
    done = subprocess.run(["bash", "--norc", "-c", BASH, "bash", FOLDER / words[0], *words], env=e or env(), text=True,
                          capture_output=True, timeout=PATIENCE, stdin=subprocess.DEVNULL, **more)
    assert done.stderr == "", done.stderr
    return set(done.stdout.split("\n")) - {""}


def fish_all(lines, e=None, **more):
    """What fish offers at the end of each line: a list of sets. One fish for all: it starts slowly."""
    script = "".join(f"source {FOLDER / program}.fish\n" for program in ("cachectl", "cached"))
    script += "".join(f"complete -C {json.dumps(line)}; echo =====\n" for line in lines)
    done = subprocess.run(["fish", "--no-config", "-c", script], env=e or env(), text=True, capture_output=True,
                          timeout=PATIENCE, stdin=subprocess.DEVNULL, **more)
    assert done.stderr == "", done.stderr
    parts = done.stdout.split("=====\n")
    assert len(parts) == len(lines) + 1
    return [{row.split("\t")[0] for row in part.splitlines()} for part in parts[:-1]]


def fish(line, e=None, **more):
    return fish_all([line], e, **more)[0]


class Terminal:
    """An interactive shell on a pseudo-terminal."""

    def __init__(self, command, e, cwd="/"):
        self.pid, self.fd = pty.fork()
        if self.pid == 0:
            os.chdir(cwd)
            os.execvpe(command[0], command, e)
        self.shown = ""

    def type(self, text, expected):
        """Types, and waits for a pattern in what is shown from then on."""
        self.shown = ""
        os.write(self.fd, text.encode())
        deadline = time.monotonic() + PATIENCE
        while not re.search(expected, self.plain()):
            assert time.monotonic() < deadline, repr(self.shown)
            if select.select([self.fd], [], [], 0.05)[0]:
                self.shown += os.read(self.fd, 4096).decode(errors="replace")

    def plain(self):
        text = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]|\x1b[=>]|\r|\x07", "", self.shown)
        return re.sub(r"[^\x08]\x08", "", text)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        os.close(self.fd)
        os.kill(self.pid, 9)
        os.waitpid(self.pid, 0)


# ---- bash

def test_cmp01_bash_offers_every_verb():
    assert bash("cachectl", "") == set(VERBS)
    assert bash("cachectl", "pol") == {"policy"}
    assert bash("cachectl", "--json", "--socket", "/x", "pol") == {"policy"}
    assert bash("cachectl", "--socket=/x", "expl") == {"explain"} or bash("cachectl", "--socket", "=", "/x", "expl") == {"explain"}


@pytest.mark.parametrize("verb", VERBS)
def test_cmp02_bash_offers_every_option_of(verb):
    assert bash("cachectl", verb, "-") == spellings(VERBS[verb]["options"]) | spellings(HELP["options"])


def test_cmp03_bash_global_options():
    assert bash("cachectl", "--") == {s for s in spellings(HELP["options"]) if s.startswith("--")}


def test_cmp04_bash_cache_names(daemon, c):
    names = {"alpha", "other cache ä", "app:users", "app:pages", "-dash", "quo'te"}
    for name in names:
        c.open(name)
    e = env(daemon)
    for words in (["ls", ""], ["get", ""], ["policy", "--ttl", "5m", ""], ["clear", ""], ["stats", ""]):
        offered = bash("cachectl", *words, e=e)
        plain = {subprocess.run(["bash", "-c", f"printf %s {n}"], capture_output=True, text=True).stdout for n in offered}
        assert plain == names
    assert bash("cachectl", "get", "al", e=e) == {"alpha"}
    assert bash("cachectl", "get", "'other", e=e) == {"other cache ä"}
    assert bash("cachectl", "get", "other\\ c", e=e) == {"other\\ cache\\ ä"} or "other" in "".join(
        bash("cachectl", "get", "other\\ c", e=e))
    # bash splits at the colon, and replaces what follows it.
    assert bash("cachectl", "get", "app", ":", e=e) == {"users", "pages"}
    assert bash("cachectl", "get", "app", ":", "u", e=e) == {"users"}
    # A second word is a key: nothing is offered.
    assert bash("cachectl", "get", "alpha", "", e=e) == set()


def test_cmp05_bash_asks_the_daemon_that_is_named(daemon, make_daemon, c):
    c.open("here")
    there = make_daemon()
    there.client().open("there")
    assert bash("cachectl", "--socket", str(there.socket), "ls", "", e=env(daemon)) == {"there"}
    assert bash("cachectl", "ls", "--socket", "=", str(there.socket), "", e=env(daemon)) == {"there"}


def test_cmp06_bash_without_a_daemon(tmp_path):
    """Nothing is offered, and nothing disturbs the line."""
    assert bash("cachectl", "ls", "", e=env(CACHED_SOCKET=str(tmp_path / "none"))) == set()


def test_cmp07_bash_a_stopped_daemon_is_not_waited_for(daemon):
    with daemon.stopped():
        assert bash("cachectl", "ls", "", e=env(daemon)) == set()


def test_cmp08_bash_files(tmp_path):
    (tmp_path / "value.bin").write_text("x")
    (tmp_path / "other").write_text("x")
    for words in (["set", "c", "k", "v"], ["get", "c", "k", "-o", "v"], ["get", "c", "k", "--output", "=", "v"],
                  ["--socket", "v"]):
        assert bash("cachectl", *words, cwd=tmp_path) == {"value.bin"}, words
    assert bash("cached", "--config", "v", cwd=tmp_path) == {"value.bin"}


def test_cmp09_bash_words_and_settings(daemon):
    assert bash("cachectl", "config", "") == {"get", "reload"}
    offered = bash("cachectl", "config", "get", "memory.", e=env(daemon))
    assert offered == {"memory.realm_budget", "memory.global_budget", "memory.uid_share", "memory.large_threshold",
                       "memory.file_bytes", "memory.session_budget"}
    assert bash("cachectl", "session", "s") == {"show", "set"}
    # Nobody is asked for tokens.
    assert bash("cachectl", "session", "get", "", e=env(daemon)) <= {""}


def daemon_options():
    text = subprocess.run([harness.BINARY, "--help"], capture_output=True, text=True, check=True).stdout
    return set(re.findall(r"(?<![\w-])(--?[A-Za-z][a-z-]*)(?=[ ,\n])", "\n".join(
        line[:25] for line in text.splitlines() if line.startswith("  ")) + "\n"))


def test_cmp10_bash_cached():
    assert bash("cached", "-") == daemon_options()
    assert bash("cached", "--log-level", "") == {"error", "warning", "info", "debug"}
    assert bash("cached", "--log-level", "=", "w") == {"warning"}


@pytest.mark.skipif("memo" not in VERBS, reason="this cachectl has no memo")
def test_cmp11_bash_commands_of_memo(daemon, c, tmp_path):
    (tmp_path / "input.csv").write_text("x")
    c.open("results")
    assert "mkdir" in bash("cachectl", "memo", "--", "mkd")
    assert "mkdir" in bash("cachectl", "memo", "mkd")
    assert "mkdir" in bash("cachectl", "memo", "--ttl", "5m", "--", "mkd")
    assert bash("cachectl", "memo", "--cache", "res", e=env(daemon)) == {"results"}
    assert bash("cachectl", "memo", "--watch", "inp", cwd=tmp_path) == {"input.csv"}
    assert "PATH" in bash("cachectl", "memo", "--env", "PA")
    # Behind the command, options are its own.
    assert bash("cachectl", "memo", "--", "ls", "--js") == set()


def test_cmp13_bash_caches_and_command_of_warm(daemon, c, tmp_path):
    """Any number of caches before the dashes, and behind them a command with arguments of its own."""
    c.open("results")
    e = env(daemon)
    assert bash("cachectl", "warm", "res", e=e) == {"results"}
    assert bash("cachectl", "warm", "-q", "results", "res", e=e) == {"results"}
    assert "mkdir" in bash("cachectl", "warm", "results", "--", "mkd", e=e)
    assert "mkdir" in bash("cachectl", "warm", "results", "other", "--", "mkd", e=e)
    assert bash("cachectl", "warm", "results", "--", "ls", "--js") == set()
    assert bash("cachectl", "monitor", "--kind", "ev", e=e) == {"evicted"}
    assert bash("cachectl", "monitor", "res", e=e) == {"results"}


def test_cmp14_bash_words_and_command_of_resource(daemon, c):
    c.set("results", b"k", b"v")
    e = env(daemon)
    assert bash("cachectl", "resource", "", e=e) == {"ls", "show", "hold", "drop"}
    for words in (["show", "res"], ["hold", "res"], ["hold", "--local", "res"]):
        assert bash("cachectl", "resource", *words, e=e) == {"results"}
    assert bash("cachectl", "resource", "hold", "results", "k", "--seg", e=e) == {"--segment"}
    assert bash("cachectl", "resource", "hold", "results", "k", "--segment", "4K", "", e=e) <= {""}
    assert "mkdir" in bash("cachectl", "resource", "hold", "results", "k", "--lock", "--", "mkd", e=e)


def test_cmp12_bash_by_the_tab_key(daemon, c):
    c.open("thumbnails")
    e = env(daemon, TERM="dumb", INPUTRC="/dev/null")
    with Terminal(["bash", "--norc", "--noprofile", "-i"], e) as t:
        t.type(f"source {FOLDER / 'cachectl'}; PS1='READY''> '\n", "READY> ")
        t.type("cachectl expl\tthum\t", "cachectl explain thumbnails ")


# ---- fish

@needs("fish")
def test_cmp30_fish_verbs_and_options():
    assert fish("cachectl ") >= set(VERBS)
    assert fish("cachectl --json ex") == {"explain"}
    for verb, offered in zip(VERBS, fish_all([f"cachectl {verb} -" for verb in VERBS])):
        assert offered >= spellings(VERBS[verb]["options"]) | spellings(HELP["options"]), verb


@needs("fish")
def test_cmp31_fish_caches_files_settings(daemon, make_daemon, c, tmp_path):
    names = {"alpha", "other cache ä", "app:users"}
    for name in names:
        c.open(name)
    there = make_daemon()
    there.client().open("there")
    (tmp_path / "value.bin").write_text("x")
    expected = {
        "cachectl get --peek al": {"alpha"},
        "cachectl get alpha ": set(),
        f"cachectl --socket {there.socket} ls ": {"there"},
        f"cachectl --socket={there.socket} ls ": {"there"},
        "cachectl config ": {"get", "reload"},
        "cachectl config get limits.rea": {"limits.realms"},
        "cachectl set c k val": {"value.bin"},
        "cachectl get c k -o val": {"value.bin"},
        "cached --log-level w": {"warning"},
        "cached -": daemon_options(),
    }
    for (line, want), offered in zip(expected.items(), fish_all(expected, e=env(daemon), cwd=tmp_path)):
        assert offered == want, line
    assert {n.replace("\\", "") for n in fish("cachectl ls ", e=env(daemon))} == names
    assert fish("cachectl ls ", e=env(CACHED_SOCKET=str(tmp_path / "none"))) == set()


@needs("fish")
@pytest.mark.skipif("memo" not in VERBS, reason="this cachectl has no memo")
def test_cmp32_fish_commands_of_memo():
    assert "mkdir" in fish("cachectl memo -- mkd")
    assert "mkdir" in fish("cachectl memo mkd")
    assert "mkdir" in fish("cachectl memo --ttl 5m -- mkd")
    assert "--json" not in fish("cachectl memo -- mkdir --")


@needs("fish")
def test_cmp33_fish_caches_and_command_of_warm(daemon, c):
    c.open("results")
    offered = fish_all(["cachectl warm res", "cachectl warm -q results res", "cachectl warm results -- mkd",
                        "cachectl warm results -- mkdir --", "cachectl monitor --kind ev", "cachectl monitor res"],
                       e=env(daemon))
    assert offered[0] == offered[1] == offered[5] == {"results"} and "mkdir" in offered[2]
    assert "--json" not in offered[3] and offered[4] == {"evicted"}


# ---- zsh

@needs("zsh")
def test_cmp50_zsh_by_the_tab_key(daemon, c, tmp_path):
    c.open("thumbnails")
    (tmp_path / "value.bin").write_text("x")
    e = env(daemon, TERM="dumb", ZDOTDIR=str(tmp_path))
    lines = [
        ("cachectl expl\t", r"cachectl explain "),
        ("cachectl --json pol\t", r"cachectl --json policy "),
        ("cachectl get thum\t", r"cachectl get thumbnails "),
        ("cachectl get --pe\tthum\t", r"cachectl get --peek thumbnails "),
        ("cachectl policy thumbnails --max-e\t", r"--max-entries="),
        ("cachectl config rel\t", r"config reload "),
        ("cachectl config get memory.rea\t", r"memory\.realm_budget "),
        ("cachectl set c k val\t", r"set c k value\.bin "),
        ("cachectl get c k -o val\t", r"-o value\.bin "),
        (f"cachectl --socket {daemon.socket} ls thum\t", r"ls thumbnails "),
        ("cached --log-level=w\t", r"--log-level=warning "),
    ]
    if "memo" in VERBS:
        lines += [("cachectl warm thum\t", r"warm thumbnails "), ("cachectl warm thumbnails -- mkdi\t", r"-- mkdir "),
                  ("cachectl monitor --kind=ev\t", r"--kind=evicted ")]
        lines += [("cachectl memo -- mkdi\t", r"memo -- mkdir "), ("cachectl memo mkdi\t", r"memo mkdir ")]
    with Terminal(["zsh", "-f", "-i"], e, str(tmp_path)) as t:
        t.type(f"fpath=({FOLDER} $fpath); autoload -Uz compinit; compinit -D -u; PROMPT='READY''> '\n", "READY> ")
        for typed, expected in lines:
            t.type(typed, expected)
            t.type("\x15\n", "READY> ")  # the line away, a new prompt


@needs("zsh")
def test_cmp52_zsh_offers_every_verb_and_option(daemon):
    """The specifications name each of them; that they work is driven above."""
    text = (FOLDER / "_cachectl").read_text()
    for verb in VERBS.values():
        assert f"'{verb['name']}:" in text and f"    {verb['name']}) _arguments" in text
        [line] = [x for x in text.splitlines() if x.startswith(f"    {verb['name']}) ")]
        for option in spellings(verb["options"]):
            assert re.search(rf"{option}[=+\[]", line), (verb["name"], option)
