# SPDX-License-Identifier: MIT
"""Objects that belong to a session, and end with it."""

from fellows import Peer

PROGRAM = """
made, gone = [], []

@cached.cache_resource(scope="session", on_release=gone.append)
def thing(n=0):
    made.append(n)
    return [n]

one, two = cached.session(), cached.session()

def of(session):
    with cached.bind_session(session):
        return thing()
"""


def test_each_session_has_its_own_until_it_ends(daemon, python):
    a = Peer(python, PROGRAM)
    assert a("[of(one) is of(one), of(one) is not of(two), of(two) is of(two), made]") == [True, True, True, [0, 0]]
    a("one.close()")
    a.until("gone", [[0]])
    assert a("[of(two), len(made), two.close()]") == [[0], 2, None]
    a.until("len(gone)", 2)
