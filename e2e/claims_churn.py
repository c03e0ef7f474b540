"""Endpoints, policies and the agent itself come and go. Each with traffic running."""

import random
import sys
import threading
import time

from claims import Claim, expect, expect_equal, wait_until
from claims_robust import fresh_start_makes_the_same
from labs import PREFIX, Background, run
from onehost import GATEWAY_MAC, LONG, Changes, Traffic, Workload, converged, differences, expect_same, ip, policy, rule, timed
from traffic import Echo


def endpoints_and_interfaces_in_any_order(host, count=20):
    """Half of the records come before their interfaces, half after; all of them at once. Each is reachable soon, and never by the thief."""
    before = host.kernel()
    one = f"{PREFIX}rmany"
    run("ip", "netns", "add", one, check=True)
    loads = [Workload(host, f"m{number}", number, {"role": "server"}, subnet=66) for number in range(count)]
    for load in loads:
        load.namespace = one
    try:
        with Traffic(host) as traffic:
            def cables(some):
                for load in some:
                    ip(host.namespace, f"link add {load.interface} address {GATEWAY_MAC} type veth peer name m{load.number} address {load.mac} netns {one}",
                       f"link set {load.interface} up")
            def records(some):
                for load in some:
                    host.store.put(load.key, load.record())
            half = count // 2
            # The reverse order for the other half: each half is the other's disturbance.
            threads = [
                threading.Thread(target=lambda: (records(loads[:half]), cables(loads[:half]))),
                threading.Thread(target=lambda: (cables(loads[half:]), time.sleep(0), records(loads[half:])))]
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join()
            def up():
                states = {e["interface"]: e for e in host.status()["endpoints"]}
                return all(states.get(load.interface, {}).get("state") == "up" for load in loads)
            took = timed("all are up", 10, up)
            host.store.transact(deletes=[load.key for load in loads[:half]])
            for load in loads[:half]:
                host.exec("ip", "link", "delete", load.interface)
            for load in loads[half:]:
                host.exec("ip", "link", "delete", load.interface)
            host.store.transact(deletes=[load.key for load in loads[half:]])
            wait_until("all are gone", 10, lambda: len(host.status()["endpoints"]) == 3)
            traffic.goes_on("afterwards")
    finally:
        host.store.transact(deletes=[load.key for load in loads])
        run("ip", "netns", "delete", one)
    converged(host, before, "after they are gone")
    return f"all {count} up {took:.0f} ms after the last; {traffic.words}"


FLOOD = """
import socket, sys
family, address, seconds = socket.AF_INET6 if ":" in sys.argv[1] else socket.AF_INET, sys.argv[1], float(sys.argv[2])
import time
sockets = [socket.socket(family, socket.SOCK_DGRAM) for _ in range(200)]
for one in sockets:
    one.connect((address, 5000))
    one.setblocking(False)
sent, until = 0, time.monotonic() + seconds
while time.monotonic() < until:
    for one in sockets:
        try:
            one.send(b"flood")
            sent += 1
        except OSError:
            pass
print(sent)
"""


def switched_under_fire(host, seconds=60 if LONG else 6):
    """Policies come, go and change while the thief sends as fast as it can: at no moment of any transaction one of its datagrams passes."""
    server, thief = host.workloads["server"], host.workloads["thief"]
    early = policy("early", {"selector": "role == 'server'", "order": 1, "types": ["Ingress"], "ingress": [rule("Deny", "TCP", "role == 'thief'", [5000])]})
    # Long enough to be entered by port; what it denies, a later policy would allow.
    many = lambda turn: policy("many", {"selector": "role == 'server'", "order": 5, "types": ["Ingress"], "ingress": [
        rule("Deny", "UDP", "role == 'thief'", [5000])] + [rule("Deny", "TCP", None, [6000 + number + turn]) for number in range(14)]})
    generous = policy("generous", {"selector": "role == 'server'", "order": 2000, "types": ["Ingress"], "ingress": [rule("Allow", "UDP")]})

    def switches():
        while True:
            host.store.put(*early)
            host.store.delete(early[0])
            yield

    def changes():
        host.in_sync(host.store.transact(puts=[many(0), generous]))
        turn = 0
        while True:
            turn += 1
            host.store.put(*many(turn % 5))
            yield
    words = []
    try:
        for what, deeds in (("lists of policies switched", switches()), ("a policy entered by port changed", changes())):
            next(deeds)
            with Echo(server.namespace, udp=[5000]) as echo:
                started = host.status()["rounds"]
                floods = [Background("ip", "netns", "exec", thief.namespace, sys.executable, "-c", FLOOD, server.address(f), seconds) for f in (4, 6)]
                until = time.monotonic() + seconds
                while time.monotonic() < until:
                    next(deeds)
                for flood in floods:
                    flood.wait(seconds + 10)
                sent, rounds, through = sum(int(flood.text) for flood in floods), host.status()["rounds"] - started, list(echo.received)
            expect(not through, f"{what}: none of {sent} datagrams to pass in {rounds} transactions", f"{len(through)} passed")
            words.append(f"{what}: {sent} datagrams, {rounds} transactions, none through")
    finally:
        host.exec("conntrack", "-F")
        host.in_sync(host.store.transact(deletes=[key for key, _ in (early, many(0), generous)]))
    return "; ".join(words)


def killed_at_random_moments(host, times=100 if LONG else 20, seed=None):
    """kill -9 and started again, at moments that include every part of a start."""
    seed = seed if seed is not None else random.randrange(1 << 32)
    dice = random.Random(seed)
    before = host.kernel()
    synced = 0
    try:
        with Traffic(host) as traffic:
            changes = Changes(host)
            for number in range(times):
                # A start takes some 30 ms until the kernel is written to: half of the moments lie in it.
                if dice.random() < 0.5:
                    time.sleep(dice.uniform(0, 0.12))
                else:
                    host.in_sync()
                    synced += 1
                    time.sleep(dice.uniform(0, 0.2))
                host.kill_felix()
                host.start_felix(wait=False)
            host.in_sync()
            traffic.goes_on("after all of them")
            revision = changes.end()
            host.in_sync(revision)
    except Claim as claim:
        raise Claim(f"seed {seed}: {claim}")
    expect_same(before, host.kernel(), f"after {times} deaths (seed {seed})")
    converged(host, before, "after the last death")
    return f"seed {seed}: {times} deaths, {synced} of them at work, {changes.count} changes written; {traffic.words}"


# 200 endpoints in a second


class Pods:
    """Endpoints that come and go in generations; their ends of the cables are in one namespace, which takes every address of 10.70.0.0/16."""

    def __init__(self, host, size=50):
        self.host, self.size = host, size
        self.namespace = f"{PREFIX}rpods"
        run("ip", "netns", "add", self.namespace, check=True)
        ip(self.namespace, "link set lo up", "route add local 10.70.0.0/16 dev lo", "route add local fd70::/64 dev lo")
        run("ip", "netns", "exec", self.namespace, "sysctl", "-qw", "net.ipv4.conf.all.rp_filter=0", check=True)
        self.count = 0

    def generation(self, number):
        loads = [Workload(self.host, f"p{number % 4}x{index}", (number % 100) * self.size + index, {"role": "server", "generation": str(number)}, subnet=70)
                 for index in range(self.size)]
        for load in loads:
            load.namespace = self.namespace
        return loads

    def add(self, loads, group):
        lines = []
        for load in loads:
            # What one namespace holds many of needs a name each; packets come in by any of them.
            peer = load.interface.replace("cali", "in")
            lines += [f"link add {load.interface} address {GATEWAY_MAC} group {group} type veth peer name {peer} address {load.mac} netns {self.namespace}",
                      f"link set {load.interface} up"]
        ip(self.host.namespace, *lines)
        ip(self.namespace, *[f"link set {load.interface.replace('cali', 'in')} up" for load in loads])
        self.host.store.transact(puts=[(load.key, load.record()) for load in loads])
        self.count += len(loads)

    def remove(self, loads, group):
        self.host.store.transact(deletes=[load.key for load in loads])
        # One message for all of them: each alone would wait for a grace period of the kernel.
        self.host.exec("ip", "link", "delete", "group", str(group), check=True)

    def end(self):
        for group in range(900, 904):
            self.host.exec("ip", "link", "delete", "group", str(group))
        run("ip", "netns", "delete", self.namespace)


SPRAY = """
import socket, sys, time
until, turn, sent = time.monotonic() + float(sys.argv[2]), 0, 0
four, six = socket.socket(socket.AF_INET, socket.SOCK_DGRAM), socket.socket(socket.AF_INET6, socket.SOCK_DGRAM)
while time.monotonic() < until:
    for number in range(5000):
        try:
            four.sendto(sys.argv[1].encode(), (f"10.70.{number // 250}.{number % 250 + 1}", 5000))
            six.sendto(sys.argv[1].encode(), (f"fd70::{number + 1:x}", 5000))
            sent += 2
        except OSError:
            pass
        if number % 50 == 0:
            time.sleep(0.001)
print(sent)
"""


def endpoints_come_and_go(host, seconds=120 if LONG else 10, rate=200):
    """So many endpoints made and taken away each second, under traffic to all of them: nothing is left behind, and nobody is let in early."""
    before, sizes = host.kernel(), host.sizes()
    pods = Pods(host)
    period, number, living = pods.size / rate, 0, []
    samples, removing = [], None
    try:
        with Traffic(host) as traffic, Echo(pods.namespace, udp=[5000]) as echo:
            sprays = [Background("ip", "netns", "exec", host.workloads[name].namespace, sys.executable, "-c", SPRAY, name, seconds) for name in ("client", "thief")]
            started = time.monotonic()
            descriptors = host.descriptors()
            while time.monotonic() < started + seconds:
                if len(living) == 3:
                    # Making waits for the kernel, and so does taking away: both at once.
                    removing = threading.Thread(target=pods.remove, args=living.pop(0))
                    removing.start()
                living.append((pods.generation(number), 900 + number % 4))
                pods.add(*living[-1])
                number += 1
                if removing:
                    removing.join()
                samples.append((time.monotonic() - started, host.memory()))
                time.sleep(max(0, started + number * period - time.monotonic()))
            took = time.monotonic() - started
            for load in living:
                pods.remove(*load)
            for spray in sprays:
                spray.wait(30)
            wait_until("all of them are gone", 30, lambda: len(host.status()["endpoints"]) == len(host.workloads))
            traffic.goes_on("afterwards")
            received = list(echo.received)
            memory, left = host.memory(), host.descriptors()
    finally:
        pods.end()
    stolen = sum(octets == b"thief" for octets in received)
    expect(stolen == 0, "nothing of the thief to reach an endpoint that came or went", f"{stolen} datagrams")
    reached = sum(octets == b"client" for octets in received)
    expect(reached > 0, "the client to reach endpoints while they live")
    wait_until(lambda: f"the kernel is as before: {differences(before, host.kernel())[:4]}", 15, lambda: host.kernel() == before)
    expect_equal(host.sizes(), sizes, "what is left in the kernel")
    expect(left <= descriptors + 2, f"{descriptors} descriptors", left)
    # What stands after the first fifth is the size of the work; more after that would be a leak.
    warm = max(size for moment, size in samples if moment <= max(took / 5, samples[0][0]))
    expect(memory <= warm + max(4, warm * 0.1), f"memory to stay at {warm:.1f} MiB", f"{memory:.1f} MiB")
    converged(host, before, "after all of them")
    return (f"{pods.count} endpoints in {took:.1f} s ({pods.count / took:.0f} each second), {reached} datagrams of the client reached them, none of the thief's; "
            f"memory {warm:.1f} → {memory:.1f} MiB; {traffic.words}")


CLAIMS = [
    ("records before interfaces and interfaces before records", endpoints_and_interfaces_in_any_order),
    ("policies switched under fire", switched_under_fire),
    ("kill -9 at random moments, under changes", killed_at_random_moments),
    ("200 endpoints made and taken away each second", endpoints_come_and_go),
    ("a kernel made from nothing is the one that stands", fresh_start_makes_the_same),
]
