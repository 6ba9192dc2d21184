# SPDX-License-Identifier: MIT
"""The Debian packages of `make deb`, on a Debian that was booted by systemd: installed, used, upgraded, removed."""

import pathlib
import re
import shutil
import subprocess

import pytest

import guest
import harness

DEBS = guest.ROOT / "build-deb"
SERVICE = ("libcached0", "cached")
DEVELOPMENT = ("libcached-dev",)
SOCKET = "/run/cached/cached.sock"

pytestmark = [pytest.mark.skipif(not list(DEBS.glob("cached_*.deb")), reason="no packages: run `make deb` first"),
              pytest.mark.skipif(not shutil.which("dpkg-deb"), reason="needs dpkg-deb: not a Debian")]


def deb(folder, package):
    [path] = folder.glob(f"{package}_*.deb")
    return path


def next_version(folder, path, change=None):
    """The package @path as the next release would have it; @change alters its files."""
    tree = folder / "tree"
    subprocess.run(["dpkg-deb", "--raw-extract", path, tree], check=True)
    control = tree / "DEBIAN" / "control"
    version = re.search(r"^Version: (.*)$", control.read_text(), re.M)[1]
    control.write_text(control.read_text().replace(version, f"{version}+next"))
    if change:
        change(tree)
    subprocess.run(["dpkg-deb", "--root-owner-group", "--build", tree, folder / path.name], check=True,
                   capture_output=True)
    shutil.rmtree(tree)


@pytest.fixture(scope="module")
def releases(tmp_path_factory):
    """The packages, and those of a later version that has another default configuration."""
    def configuration(tree):
        path = tree / "etc/cached/cached.conf"
        path.write_text(path.read_text() + "\n# of the next version\n")

    folder = tmp_path_factory.mktemp("packages")
    folder.chmod(0o755)
    (folder / "one").mkdir()
    (folder / "two").mkdir()
    for package in SERVICE + DEVELOPMENT:
        path = deb(DEBS, package)
        shutil.copy(path, folder / "one")
        next_version(folder / "two", path, configuration if package == "cached" else None)
    return folder


@pytest.fixture
def debian(releases):
    """A guest with two users, one of whom will be in the group, and no cached yet."""
    with guest.boot(options=["--bind-ro", f"{releases}:/run/debs"]) as g:
        # What the machine beneath has: a policy that starts no services, these very packages.
        g.run("rm -f /usr/sbin/policy-rc.d; dpkg --purge cached libcached-dev libcached0")
        # The index of manual pages is another package's work, and takes seconds each time.
        g.run("rm -f /var/lib/man-db/auto-update")
        g.environment["DEBIAN_FRONTEND"] = "noninteractive"
        g.add_user("alice")
        g.add_user("bob")
        yield g


def files(release, packages=SERVICE):
    return [f"/run/debs/{release}/{deb(DEBS, p).name}" for p in packages]


def install(g, release="one", packages=SERVICE):
    """What apt does in the end, and faster than with it."""
    g.run(["dpkg", "--force-confold", "--install", *files(release, packages)])


def state(g, unit="cached.socket"):
    return (g.text(f"systemctl is-enabled {unit}", check=False), g.text(f"systemctl is-active {unit}", check=False))


def is_member(g):
    g.run("usermod --append --groups cached alice")


def section(heading):
    """[(kind, lines)] of the blocks of code in that section of README.md."""
    text = (guest.ROOT / "README.md").read_text().split(f"\n## {heading}\n")[1].split("\n## ")[0]
    return [(kind, block.splitlines()) for kind, block in re.findall(r"^```(\w+)\n(.*?)^```$", text, re.M | re.S)]


def test_pk00_readme(debian):
    """The commands of "Install as a service", and what it shows of their output."""
    debian.run("ln -s /run/debs/one /home/build-deb; echo 'APT::Get::Assume-Yes true;' >/etc/apt/apt.conf.d/99yes")
    blocks = section("Install as a service")
    assert [kind for kind, _ in blocks] == ["sh", "text", "text", "sh", "sh"]
    architecture = subprocess.run(["dpkg", "--print-architecture"], text=True, capture_output=True).stdout.strip()
    for kind, lines in blocks[:-1]:  # the last one is without packages
        if kind == "sh":
            typed = [line.replace("_amd64", f"_{architecture}") for line in lines if line.split()[0] != "make"]
            assert typed
            debian.run("set -e; cd /home\n" + "\n".join(typed))
            continue
        user, command = lines[0].split("$ ")
        r = debian.run(command, user=user, check=False)
        assert re.sub(r"\d+[mu]s", "-", (r.text + r.err).strip()) == re.sub(r"\d+[mu]s", "-", "\n".join(lines[1:]))
    debian.run("test ! -e /etc/cached && getent passwd cached")


def test_pk01_installed_it_serves(debian):
    """The socket listens, and will after a boot; the daemon starts with the first client, who is in the group."""
    install(debian)
    assert state(debian) == ("enabled", "active")
    assert state(debian, "cached.service")[1] == "inactive"
    assert debian.text(f"stat -c '%U:%G %a' {SOCKET}") == "cached:cached 660"
    assert re.match(r"cached:x:\d+:\d+:[^:]*:/:\S*/nologin$", debian.text("getent passwd cached"))

    is_member(debian)
    debian.run("cachectl set demo today --ttl 10m", user="alice", stdin=b"a value\n")
    assert debian.run("cachectl get demo today", user="alice").out == b"a value\n"
    assert state(debian, "cached.service")[1] == "active"
    assert debian.text("ps -o user= -C cached") == "cached"
    r = debian.run("cachectl ping", user="bob", check=False)
    assert r.status != 0 and "permission denied" in r.err.lower()


def test_pk02_what_lies_where(debian):
    """Files as they were packaged, pages that `man` finds, units for users that nobody has switched on."""
    install(debian, packages=SERVICE + DEVELOPMENT)
    assert debian.text("dpkg --verify cached libcached0 libcached-dev") == ""
    assert debian.text("stat -c '%U:%G %a' /etc/cached/cached.conf /etc/cached/cached.conf.d").split("\n") == \
        ["root:root 644", "root:root 755"]
    assert debian.text("systemctl --global is-enabled cached.socket", check=False) == "disabled"
    listed = debian.text("dpkg --listfiles cached libcached-dev")
    for page in ("man8/cached.8", "man1/cachectl.1", "man5/cached.conf.5", "man3/libcached.3", "man3/cached_get.3"):
        assert f"/usr/share/man/{page}.gz" in listed
    for path in ("bash-completion/completions/cachectl", "fish/vendor_completions.d/cachectl.fish",
                 "zsh/vendor-completions/_cachectl"):
        assert f"/usr/share/{path}" in listed


def test_pk03_programs_are_built_with_it(debian):
    """By pkg-config alone, and run by somebody else."""
    install(debian, packages=SERVICE + DEVELOPMENT)
    is_member(debian)
    debian.run("cc -o /usr/local/bin/lookup /usr/share/doc/libcached-dev/examples/lookup.c "
               "$(pkg-config --cflags --libs cached)")
    assert debian.text("lookup 1000", user="alice") == "333833500"
    assert debian.text("lookup 1000", user="alice") == "333833500 (cached)"


# ---- upgrades

PINGS = "while :; do cachectl ping >/dev/null || echo refused; echo answered; done"


def upgrade(g):
    """Alice has entries, and asks all the while that the next version is installed."""
    install(g)
    is_member(g)
    g.run("for i in $(seq 100); do echo value $i | cachectl set demo key$i; done", user="alice")
    before = {name: g.show("cached.socket", name) for name in ("InvocationID", "ActiveEnterTimestampMonotonic")}
    daemon = g.show("cached.service", "MainPID")
    pings = g.start(PINGS, user="alice")
    pings.wait_out("answered")
    install(g, "two")
    asked = len(pings.out())
    harness.wait_until(lambda: len(pings.out()) > asked, "answers after the upgrade")
    pings.kill()
    assert {name: g.show("cached.socket", name) for name in before} == before, "the socket was stopped"
    assert g.show("cached.service", "MainPID") not in (daemon, "0")
    return pings.out().decode()


def test_up01_nobody_is_refused(debian):
    """The service is restarted, the socket is not; who asks meanwhile waits."""
    said = upgrade(debian)
    assert "refused" not in said and "answered" in said
    assert state(debian) == ("enabled", "active")
    assert "+next" in debian.text("dpkg-query -W cached")


def test_up02_entries_stay(debian):
    """All of them: the daemon that was stopped left them with systemd."""
    upgrade(debian)
    wanted = "".join(f"value {i}\n" for i in range(1, 101))
    assert debian.run("for i in $(seq 100); do cachectl get demo key$i; done", user="alice",
                      check=False).text == wanted


def test_up03_an_idle_service_is_not_started(debian):
    """Nobody has asked yet: an upgrade changes nothing in that."""
    install(debian)
    install(debian, "two")
    assert state(debian) == ("enabled", "active")
    assert state(debian, "cached.service")[1] == "inactive"


def test_up04_what_the_administrator_said_stays(debian):
    """An edited configuration, and a socket that was switched off."""
    install(debian)
    debian.run("systemctl disable --now cached.socket")
    debian.write("/etc/cached/cached.conf", "[limits]\npage_entries = 7\n")
    debian.write("/etc/cached/cached.conf.d/own.conf", "[memory]\nrealm_budget = 64M\n")
    install(debian, "two")
    assert state(debian) == ("disabled", "inactive")
    assert debian.read("/etc/cached/cached.conf") == "[limits]\npage_entries = 7\n"
    assert "of the next version" in debian.read("/etc/cached/cached.conf.dpkg-dist")
    assert debian.read("/etc/cached/cached.conf.d/own.conf") == "[memory]\nrealm_budget = 64M\n"


# ---- away with it

def test_rm01_removed(debian):
    """Both are stopped and their directory is gone; the configuration stays until it is purged."""
    install(debian)
    is_member(debian)
    debian.run("cachectl ping", user="alice")
    debian.run("dpkg --remove cached")
    assert debian.text("pgrep -x cached", check=False) == ""
    assert state(debian) == ("", "inactive")
    assert state(debian, "cached.service")[1] == "inactive"
    debian.run("test ! -e /run/cached && test -f /etc/cached/cached.conf")


def test_rm02_removed_under_clients(debian):
    """Who connects all the while does not start it again."""
    install(debian)
    is_member(debian)
    pings = debian.start(PINGS, user="alice")
    pings.wait_out("answered")
    debian.run("dpkg --remove cached")
    pings.kill()
    assert debian.text("pgrep -x cached", check=False) == ""
    assert state(debian, "cached.service")[1] == "inactive"


def test_rm03_mapped_memory_is_over(debian):
    """Who has mapped the page that says whose memory counts sees that none does: it is emptied, and not cut."""
    install(debian)
    is_member(debian)
    debian.run("cachectl ping", user="alice")
    said = debian.text(f"exec 3<{SOCKET}.epoch; cat /dev/fd/3 >/tmp/before; dpkg --remove cached >/dev/null; "
                       "cat <&3 >/tmp/after; stat -c %s /tmp/before /tmp/after; tr -d '\\0' </tmp/before | wc -c; "
                       "tr -d '\\0' </tmp/after | wc -c")
    size_before, size_after, before, after = map(int, said.split())
    assert size_before == size_after == 4096 and before > 0 and after == 0


def test_rm04_purged(debian):
    """Nothing is left but the user and the group: their numbers may stand on files somewhere."""
    install(debian)
    debian.write("/etc/cached/cached.conf.d/own.conf", "[memory]\nrealm_budget = 64M\n")
    debian.run("dpkg --purge cached libcached-dev libcached0")
    debian.run("test ! -e /etc/cached && test ! -e /run/cached && test ! -e /usr/share/cached")
    assert debian.text("find /etc/systemd /var/lib/systemd -name 'cached*'") == ""
    debian.run("getent passwd cached && getent group cached")


@pytest.mark.parametrize("way", ["remove", "purge"])
def test_rm05_installed_again(debian, way):
    """It serves as on the first day."""
    install(debian)
    debian.run(f"dpkg --{way} cached")
    install(debian)
    is_member(debian)
    assert state(debian) == ("enabled", "active")
    debian.run("cachectl ping", user="alice")
