# SPDX-License-Identifier: MIT
"""A real systemd for tests: boots one in a sandbox, with what this build installs, and runs commands in it.

    with guest.boot() as g:                        # root; 0.5 s; all of it is gone afterwards
        g.install()                                # this build, as `meson install` lays it out
        g.run("systemctl enable --now cached.socket")
        g.add_user("alice", "cached")
        r = g.run("cachectl set c k v", user="alice", check=False)
        assert (r.status, r.out) == (0, ""), r.err
        g.drop_in("cached.service", "[Service]\\nWatchdogSec=1\\n")
        p = g.start("journalctl -f")               # goes on beside; p.kill(), p.wait()
        g.python("import wire; …")                 # with the modules of tests/outside
        g.outside("test_b_basic.py")               # and its tests, against the service
        assert "ready on" in g.journal("cached.service")

Commands are shell scripts, run as root unless @user is given; a failure raises an AssertionError with their
output. `boot()` skips the test, with the reason, where no sandbox can be had, and fails where one should be.

Other file systems (another systemd): boot(root=DIR); they need bash, and python3 for python(). `install(dest)`
takes any tree, so that a test can install an older build first and upgrade. The file `sandbox` beside this one
says what a sandbox is and what its options are; boot(options=[…]) passes more of them.

Whatever the daemon's sanitizers report ends up in the journal: `finish()`, which boot() calls, looks there.
"""

import contextlib
import functools
import json
import os
import pathlib
import re
import shlex
import shutil
import subprocess
import sys
import tempfile
import threading
import time

import pytest

HERE = pathlib.Path(__file__).resolve().parent
OUTSIDE = HERE.parent / "outside"
sys.path.insert(0, str(OUTSIDE))

import harness  # noqa: E402  (of tests/outside)

SANDBOX = HERE / "sandbox"
PATIENCE = harness.PATIENCE
SHARED = "/run/guest"       # where the folder of the commands is in the guest
ROOT = HERE.parents[1]

# Where systemd looks for what administrators write, and what is gone with the next boot.
ETC_UNITS = "/etc/systemd/system"
RUN_UNITS = "/run/systemd/system"

PYTHON = ("PYTHONDONTWRITEBYTECODE=1 PYTHONPATH=/run/tests/systemd:/run/tests/outside CACHED_PROTO=/run/proto "
          "CACHED_BUILD=/run/build /usr/bin/python3")

# LeakSanitizer stops the process that it looks at, by ptrace(): the units refuse that, and rightly so. A newer libasan
# than the compiler's (boot(root=…)) would look for uses of the stack after a return by default, which code of gcc 12
# is not made for: its frames are not aligned.
NEWER_LIBASAN = "detect_stack_use_after_return=0"
SANITIZER_ENVIRONMENT = (f"ASAN_OPTIONS=detect_leaks=0:allocator_may_return_null=1:{NEWER_LIBASAN} "
                         "UBSAN_OPTIONS=print_stacktrace=1")


def why_not():
    """Why no sandbox can be had here; None: it can."""
    if os.geteuid() != 0:
        return "needs root, to boot a systemd in namespaces of its own"
    with open("/proc/filesystems", encoding="ascii") as f:
        kinds = f.read().split()
    if "overlay" not in kinds or "cgroup2" not in kinds:
        return "the kernel has no overlayfs or no cgroup2"
    p = subprocess.run(["unshare", "--pid", "--fork", "--mount", "--uts", "--ipc", "--cgroup", "--net", "true"],
                       capture_output=True, text=True)
    if p.returncode != 0:
        return f"no namespaces can be had here: {p.stderr.strip()}"
    for program in ("/lib/systemd/systemd", "/usr/bin/dbus-daemon"):
        if not os.access(program, os.X_OK):
            return f"no {program}: install the packages systemd and dbus"
    return None


def needs_sandbox():
    reason = why_not()
    if reason:
        pytest.skip(reason, allow_module_level=True)


@functools.cache
def prefix():
    return harness.OPTIONS.get("prefix", "/usr/local")


def installed_tree(build=harness.BUILD):
    """`meson install` of @build into a directory of its own, which the caller removes."""
    dest = pathlib.Path(tempfile.mkdtemp(prefix="cached-dest-"))
    p = subprocess.run([shutil.which("meson") or "meson", "install", "-C", str(build), "--no-rebuild", "--quiet",
                        "--destdir", str(dest)], capture_output=True, text=True, timeout=100)
    assert p.returncode == 0, p.stdout + p.stderr
    return dest


class Result:
    def __init__(self, command, status, out, err):
        self.command, self.status, self.out, self.err = command, status, out, err

    @property
    def text(self):
        return self.out.decode(errors="replace")

    @property
    def json(self):
        return json.loads(self.text)

    def __str__(self):
        return f"{self.command}\nstatus {self.status}\n{self.text}{self.err}"


class Running:
    """A command that goes on in the guest."""

    def __init__(self, g, folder, command):
        self.g, self.folder, self.command = g, folder, command

    def out(self):
        """What it has written so far."""
        return (self.folder / "out").read_bytes()

    def wait_out(self, pattern):
        return harness.wait_until(lambda: re.search(pattern, self.out().decode(errors="replace")),
                                  f"{self.command!r} prints {pattern!r}")

    def wait(self, timeout=PATIENCE * 3, check=True):
        status = self.g.status_of(self.folder.name, timeout)
        r = Result(self.command, status, self.out(), (self.folder / "err").read_text(errors="replace"))
        assert not harness.SANITIZER.search(r.err), str(r)
        assert not check or status == 0, str(r)
        return r

    def kill(self, signal="TERM"):
        """Its whole process group is the agent's: what is signalled is the shell that runs it, by its folder."""
        self.g.run(f"pkill -{signal} -f {shlex.quote(f'^bash {SHARED}/{self.folder.name}/script')}", check=False)


class Guest:
    """A booted systemd; made by boot()."""

    def __init__(self, process, shared):
        self.process, self.shared = process, shared
        self.statuses, self.changed, self.n = {}, threading.Condition(), 0
        self.environment = {}
        self.reader = threading.Thread(target=self._read, daemon=True)
        self.reader.start()

    def _read(self):
        for line in self.process.stdout:
            word, _, status = line.decode().partition(" ")
            with self.changed:
                self.statuses[word.strip()] = int(status or 0)
                self.changed.notify_all()
        with self.changed:
            self.statuses[None] = 0  # it has ended
            self.changed.notify_all()

    def status_of(self, name, timeout):
        with self.changed:
            self.changed.wait_for(lambda: name in self.statuses or None in self.statuses, timeout)
            assert name in self.statuses, (f"{name}: no end after {timeout:g} s" if None not in self.statuses
                                           else f"the sandbox ended: {self.errors()}")
            return self.statuses[name]

    def errors(self):
        return (self.shared / "sandbox.log").read_text(errors="replace")

    # ---- commands

    def start(self, command, user=None, stdin=b""):
        """Starts @command (a shell script, or a list of arguments)."""
        if not isinstance(command, str):
            command = shlex.join(str(word) for word in command)
        self.n += 1
        folder = self.shared / f"c{self.n}"
        folder.mkdir(mode=0o755)
        text = "".join(f"export {k}={shlex.quote(v)}\n" for k, v in self.environment.items())
        if user:
            text += (f"exec setpriv --reuid {user} --regid {user} --init-groups --reset-env "
                     f"bash -c {shlex.quote(text + 'cd /; ' + command)}\n")
        else:
            text += command + "\n"
        (folder / "script").write_text(text)
        (folder / "in").write_bytes(stdin)
        for name in ("out", "err"):
            (folder / name).write_bytes(b"")
        self.process.stdin.write(folder.name.encode() + b"\n")
        self.process.stdin.flush()
        return Running(self, folder, command)

    def run(self, command, user=None, stdin=b"", check=True, timeout=PATIENCE * 3):
        return self.start(command, user, stdin).wait(timeout, check)

    def text(self, command, **more):
        """What @command prints, without the newline at the end."""
        return self.run(command, **more).text.rstrip("\n")

    def python(self, code, user=None, **more):
        """Runs @code by the guest's python3, which finds the modules of tests/outside."""
        return self.run(f"{PYTHON} -", user=user, stdin=code.encode(), **more)

    def outside(self, *args, timeout=200):
        """Runs tests of tests/outside against the installed service (in_service.py); all have to pass, or be
        skipped. Gives how many passed."""
        self.drop_in("cached.socket", "[Socket]\nSocketMode=0666\n", "20-outside")  # peers of any uid
        args = shlex.join(f"/run/tests/outside/{a}" if a.startswith("test_") else a for a in args)
        r = self.run(f"cd /run/build && {PYTHON} -m pytest -q --tb=short -p no:cacheprovider -p in_service "
                     f"--rootdir /run/tests/outside {args}", check=False, timeout=timeout)
        assert r.status == 0, str(r)
        return int(re.search(r"(\d+) passed", r.text).group(1))

    # ---- files, users, units

    def write(self, path, text, mode=0o644):
        self.run(f"mkdir -p {shlex.quote(os.path.dirname(path))} && cat >{shlex.quote(path)} && "
                 f"chmod {mode:o} {shlex.quote(path)}", stdin=text.encode())

    def read(self, path):
        return self.run(["cat", path]).text

    def install(self, dest=None):
        """What @dest holds, laid over the guest's files as a package would be; else this build. Then the user,
        and systemd told of the units."""
        made = None
        if dest is None:
            dest = made = installed_tree()
        try:
            target = self.shared / "install"
            shutil.rmtree(target, ignore_errors=True)
            shutil.copytree(dest, target, symlinks=True)
            target.chmod(0o755)  # the guest's root becomes like it
        finally:
            if made:
                shutil.rmtree(made)
        # Programs that run are replaced, not written to.
        self.run(f"chown -R 0:0 {SHARED}/install && cp -a --remove-destination {SHARED}/install/. / && ldconfig && "
                 "systemd-sysusers && systemctl daemon-reload")
        shutil.rmtree(target)
        if harness.SHADOWED:
            text = f"[Service]\nEnvironment={SANITIZER_ENVIRONMENT}\n"
            self.write("/etc/systemd/user/cached.service.d/10-sanitizer.conf", text)
            self.drop_in("cached.service", text, "10-sanitizer")

    def add_user(self, name, *groups):
        """A user, who is in @groups; gives the uid."""
        more = f"--groups {','.join(groups)}" if groups else ""
        self.run(f"useradd --create-home --user-group {more} {name}")
        return int(self.text(f"id -u {name}"))

    def start_user_manager(self, name):
        """As a login of @name does; gives what has to stand in front of `systemctl --user`."""
        uid = self.text(f"id -u {name}")
        self.run(f"systemctl start user@{uid}.service")
        return f"export XDG_RUNTIME_DIR=/run/user/{uid}; "

    def drop_in(self, unit, text, name="50-test"):
        self.write(f"{RUN_UNITS}/{unit}.d/{name}.conf", text)
        self.run("systemctl daemon-reload")

    def remove_drop_in(self, unit, name="50-test"):
        self.run(f"rm -f {RUN_UNITS}/{unit}.d/{name}.conf && systemctl daemon-reload")

    def unit(self, name, text):
        """A unit of the test's own."""
        self.write(f"{RUN_UNITS}/{name}", text)
        self.run("systemctl daemon-reload")

    def show(self, unit, name):
        """A property of a unit."""
        return self.text(f"systemctl show --value -p {name} {unit}")

    def wait_show(self, unit, name, value):
        return harness.wait_until(lambda: self.show(unit, name) == value, f"{name} of {unit} is {value}")

    def journal(self, unit=None, more=""):
        """The messages of the journal, or of @unit."""
        self.run("journalctl --sync")
        return self.run(f"journalctl --no-pager -o cat {'-u ' + unit if unit else ''} {more}").text

    def wait_journal(self, unit, pattern, more=""):
        return harness.wait_until(lambda: re.search(pattern, self.journal(unit, more)),
                                  f"the journal of {unit} says {pattern!r}")

    # ---- its end

    def finish(self):
        """No sanitizer has reported anything."""
        journal = self.journal()
        assert not harness.SANITIZER.search(journal), journal

    def close(self):
        with contextlib.suppress(BrokenPipeError):
            self.process.stdin.close()
        try:
            self.process.wait(PATIENCE)
        except subprocess.TimeoutExpired:
            self.process.terminate()  # which ends the sandbox with all that is in it
            self.process.wait(PATIENCE)
        self.reader.join(PATIENCE)
        self.process.stdout.close()


@contextlib.contextmanager
def boot(root=None, options=(), timeout=240, check=True):
    """A guest. @check: its journal is looked at in the end, unless the test has failed."""
    needs_sandbox()
    shared = pathlib.Path(tempfile.mkdtemp(prefix="cached-guest-"))
    shared.chmod(0o755)
    command = [SANDBOX, "--no-install", "--timeout", str(timeout), "--chdir", "/", "--bind", f"{shared}:{SHARED}",
               "--bind-ro", f"{HERE / 'agent'}:/run/agent", "--bind-ro", f"{ROOT / 'tests'}:/run/tests",
               "--bind-ro", f"{ROOT / 'proto'}:/run/proto", "--bind-ro", f"{harness.BUILD.resolve()}:/run/build",
               *options]
    if root:
        command += ["--root", root]
    env = {k: v for k, v in os.environ.items() if not k.startswith(("CACHED_", "PYTEST_", "LD_", "MESON"))}
    env.update(LC_ALL="C.UTF-8", PATH="/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin")
    g = None
    try:
        with open(shared / "sandbox.log", "wb") as log:
            process = subprocess.Popen([*command, "--", "/run/agent", SHARED], stdin=subprocess.PIPE,
                                       stdout=subprocess.PIPE, stderr=log, env=env)
        g = Guest(process, shared)
        g.status_of("ready", 60)
        if root and harness.SHADOWED:
            g.environment["ASAN_OPTIONS"] = NEWER_LIBASAN
        yield g
        if check:
            g.finish()
    finally:
        if g:
            g.close()
        shutil.rmtree(shared, ignore_errors=True)


def elapsed(what):
    """(seconds, result) of what()."""
    begin = time.monotonic()
    result = what()
    return time.monotonic() - begin, result
