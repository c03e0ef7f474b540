"""Graceful restart of BGP (RFC 4724), both roles, in a fabric with a route reflector, under traffic with exact counts."""

import signal
import time

from claims import expect, expect_equal, wait_until
from fabric import BLOCKS, Fabric, expect_nothing_lost, missing


def no_packet_lost(reflector):
    """Whoever ends, however it ends: no packet is lost and no kernel route is touched, anywhere.

    A BIRD that restarts together with its client does not wait for that one (RFC 4724, section 4.1: the client says that it restarts, too)
    and takes its routes out for the milliseconds until they are told again; with ours on both ends nothing is lost.
    """
    said = []
    with Fabric(reflector) as fabric:
        fabric.watch()
        flows = fabric.traffic()
        fabric.go_on(flows)
        for victims, numbers in (
            (["h1"], (signal.SIGKILL, signal.SIGTERM)), (["rr"], (signal.SIGKILL,) if reflector == "bird" else (signal.SIGKILL, signal.SIGTERM)),
            (["h1", "h2"], (signal.SIGKILL,)),
            *((victims, (signal.SIGKILL,)) for victims in (["rr", "h1"], ["rr", "h1", "h2"]) if reflector == "margay"),
        ):
            for number in numbers:
                for name in victims:
                    fabric.end(name, number)
                fabric.go_on(flows)
                started = time.monotonic()
                for name in victims:
                    fabric.start(name, restarts=True)
                fabric.settled(f"{' and '.join(victims)} again")
                said.append(f"{'+'.join(victims)} {time.monotonic() - started:.1f} s")
                fabric.go_on(flows)
                expect_equal(missing(flows), [], f"requests lost while {victims} restarted ({number.name})")
                expect_equal(fabric.changes()[:6], [], f"changes of routes while {victims} restarted ({number.name})")
        sent = expect_nothing_lost(flows, reflector)
        expect_equal(fabric.changes()[:6], [], "changes of the kernels' routes")
    whose = "no" if reflector == "margay" else "no host's"
    return f"{sent} requests, none lost, {whose} route touched; settled again after: {', '.join(said)}"


def consecutive_restarts(reflector):
    """One restart after the other, each as soon as the one before is over; then a restart in the midst of another."""
    with Fabric(reflector) as fabric:
        flows = fabric.traffic()
        for name in ("h1", "rr") if reflector == "margay" else ("h1",):
            for _ in range(3):
                fabric.end(name)
                fabric.start(name, restarts=True)
                fabric.settled(f"{name} again")
        for _ in range(3):
            fabric.end("h1")
            fabric.start("h1")
            wait_until("h1 reads its kernel", 5, lambda: fabric.status("h1") is not None, pause=0.002)
        fabric.settled("h1 after restarts within a restart")
        fabric.go_on(flows)
        return f"{expect_nothing_lost(flows, 'consecutive restarts')} requests, none lost"


def stale_routes_are_swept(reflector):
    """The restarting side comes back with fewer routes: exactly those that are missing go from the others, when it has told all."""
    with Fabric(reflector) as fabric:
        flows = fabric.traffic()
        for extra in ("10.66.1.64/26", "fd66:1::40/122"):
            fabric.felix(1, "add", "blackhole", extra)
        wait_until("h2 has learned the two blocks more", 5, lambda: {"10.66.1.64/26", "fd66:1::40/122"} <= set(fabric.learned(2)))
        fabric.end("h1")
        for extra in ("10.66.1.64/26", "fd66:1::40/122"):
            fabric.felix(1, "del", "blackhole", extra)
        fabric.go_on(flows)
        expect({"10.66.1.64/26", "fd66:1::40/122"} <= set(fabric.learned(2)), "stale routes to stay while h1 is away", fabric.learned(2))
        fabric.start("h1")
        wait_until(lambda: f"what h1 has no more is gone from h2: {fabric.learned(2)}", 20, lambda: sorted(fabric.learned(2)) == sorted(BLOCKS[1]))
        fabric.go_on(flows)
        return f"{expect_nothing_lost(flows, 'sweep')} requests, none lost"


def restart_timer_expires(reflector):
    """Who does not come back within its restart time is forgotten then, and not before; who comes later is learned anew."""
    with Fabric(reflector, restart_time=3) as fabric:
        fabric.end("h1")
        ended = time.monotonic()
        wait_until("h2 has lost h1's routes", 15, lambda: not fabric.learned(2), pause=0.02)
        after = time.monotonic() - ended
        expect(2.0 <= after <= 8, "routes to go about 3 s after the end", f"{after:.2f} s")
        fabric.start("h1")
        fabric.settled("h1 is learned anew")
    return f"routes gone {after:.1f} s after the end"


def policy_changes_meanwhile():
    """Stale routes obey what an operator changes while their owner is away."""
    with Fabric("margay") as fabric:
        flows = fabric.traffic()
        fabric.end("h1")
        fabric.go_on(flows)
        fabric.set_export(False)
        wait_until("h2 is told that the pool is not announced any more", 5, lambda: not fabric.learned(2))
        fabric.set_export(True)
        wait_until("h2 has the stale routes again", 5, lambda: sorted(fabric.learned(2)) == sorted(BLOCKS[1]))
        fabric.start("h1")
        fabric.settled("h1 again")
        flows.stopping.set()
