"""What others do to a host: its table, routes, interfaces, sysctls, its agent and its datastore. Each with traffic running."""

import os
import random
import signal
import sys
import threading
import time

from claims import Claim, expect, expect_equal, wait_until
from labs import MARGAY, PREFIX, Background, run
from onehost import GATEWAY_MAC, ROOT, Host, Traffic, Workload, converged, differences, expect_same, ip, policy, rule
from traffic import Echo, tcp_reaches, udp_echo

# How long a repair may take, from the deed to the kernel being right again: the kernel tells, and a round of felix follows. Typical are a
# few milliseconds; the bound is for a machine that does other work as well.
REPAIRED = 2.0
# In full size: minutes instead of seconds.
LONG = bool(os.environ.get("MARGAY_LONG_TESTS"))


def timed(what, seconds, condition):
    started = time.monotonic()
    wait_until(what, seconds, condition, pause=0.002)
    return (time.monotonic() - started) * 1000


# The table

def table_of_a_living_agent(host):
    """With the owner flag the kernel refuses every edit of others, and `flush ruleset` passes our table by."""
    before = host.kernel()
    with Traffic(host) as traffic:
        for words in (
            "flush table inet margay", "delete table inet margay", "add rule inet margay forward accept", "add chain inet margay other",
            "insert rule inet margay forward accept", "add table inet margay { flags dormant; }",
        ):
            output = host.exec("nft", words)
            expect(output.code != 0, f"`nft {words}` to be refused", output)
        # Nothing else is in this namespace, so there is nothing that a flush could flush.
        host.exec("nft", "flush", "ruleset")
        expect_same(before, host.kernel(), "after the attempts")
        traffic.goes_on("after the attempts")
    expect_equal(host.status()["inSync"], True, "in sync")
    converged(host, before, "after the attempts")
    return traffic.words


def table_of_a_dead_agent(host):
    """Nobody guards the table while its owner is dead. The next start makes it anew, in one transaction, before it says that it is in sync."""
    before = host.kernel()
    host.kill_felix()
    with Traffic(host) as traffic:
        traffic.goes_on("while no agent lives")
    held = traffic.words
    for words in (["delete", "table", "inet", "margay"], ["flush", "chain", "inet", "margay", "forward"], ["flush", "ruleset"]):
        host.exec("nft", *words)
        with Traffic(host, open_seconds=30) as traffic:
            host.start_felix()
            started = time.monotonic()
            expect_same(before, host.kernel(), f"after `nft {' '.join(words)}` and a start")
            traffic.goes_on("after the start")
        late = [what for moment, what in traffic.through if moment > started and "connection" in what]
        expect(not late, "no connection that policy denies once felix is in sync", late[:3])
        host.kill_felix()
    host.start_felix()
    converged(host, before, "after all of it")
    return f"untouched: {held}"


def table_without_owner(host):
    """As on a kernel before 6.9: others may edit, and the agent repairs. How long what is denied may pass is measured."""
    host.kill_felix()
    host.exec("nft", "delete", "table", "inet", "margay")
    host.environment = {"MARGAY_TABLE_OWNER": "no"}
    host.start_felix()
    try:
        table = host.exec("nft", "list", "table", "inet", "margay", check=True)
        expect("flags" not in table.split("chain", 1)[0].split("set", 1)[0], "a table without an owner", table[:200])
        before = host.kernel()
        chains = sorted(key.split()[1] for key in before if key.startswith("chain "))
        maps = sorted(key.split()[1] for key in before if key.startswith(("set ", "map ")) and len(before[key]) > 1)
        deeds = [f"delete table inet margay", "flush table inet margay", "insert rule inet margay forward accept", "add chain inet margay other"]
        deeds += [f"flush chain inet margay {name}" for name in chains if name != "forward"][:4]
        worst = 0
        with Traffic(host, lost_seconds=REPAIRED, open_seconds=30) as traffic:
            for words in deeds + [("flush map" if f"map {name}" in before else "flush set") + f" inet margay {name}" for name in maps[:3]]:
                host.exec("nft", words, check=True)
                worst = max(worst, timed(lambda: f"`nft {words}` is undone: {differences(before, host.kernel_or_nothing())[:3]}", 5,
                                         lambda: host.kernel_or_nothing() == before))
                traffic.goes_on(f"after `nft {words}`")
        return f"undone and seen to be within {worst:.0f} ms at most; {traffic.words}"
    finally:
        host.kill_felix()
        host.environment = {}
        host.start_felix()


# Routes

def routes_deleted(host):
    block = "/calico/ipam/v2/assignment/ipv4/block/10.65.0.0-26"
    host.store.put(block, {"cidr": "10.65.0.0/26", "affinity": "host:h1", "allocations": [None] * 64, "attributes": [], "unallocated": list(range(64))})
    wait_until("the block's route", 5, lambda: "10.65.0.0/26" in host.exec("ip", "route", "show", "type", "blackhole"))
    # What cannot be read of it later changes nothing.
    host.in_sync(host.store.put(block, {"cidr": "10.65.0.0/26", "allocations": ["what"]}))
    expect("10.65.0.0/26" in host.exec("ip", "route", "show", "type", "blackhole"), "the block's route to stay while the block cannot be read")
    host.in_sync(host.store.put(block, {"cidr": "10.65.0.0/26", "affinity": "host:h1", "allocations": [None] * 64, "attributes": [], "unallocated": list(range(64))}))
    before = host.kernel()
    server = host.workloads["server"]
    times = []
    with Traffic(host, lost_seconds=REPAIRED) as traffic:
        for words in (
            ("route", "delete", f"{server.v4}/32"), ("-6", "route", "delete", f"{server.v6}/128"), ("route", "delete", "blackhole", "10.65.0.0/26"),
            ("route", "flush", "proto", "80"), ("-6", "route", "flush", "proto", "80"), ("route", "flush", "table", "main"), ("-6", "route", "flush", "proto", "80"),
        ):
            host.exec("ip", *words, check=True)
            times.append(timed(lambda: f"`ip {' '.join(words)}` is undone: {differences(before, host.kernel())[:3]}", REPAIRED + 4,
                               lambda: all(host.routes(family) == before[f"routes {family}"] for family in ("-4", "-6"))))
            traffic.goes_on(f"after `ip {' '.join(words)}`")
    converged(host, before, "after the deletions")
    expect(max(times) <= REPAIRED * 1000, f"each to be undone within {REPAIRED} s", times)
    return f"undone and seen to be within {max(times):.0f} ms at most; {traffic.words}"


def foreign_routes(host, count=100_000):
    """Others' routes: not ours to touch, and hardly ours to look at."""
    before = host.kernel()
    ip(host.namespace, "link add up0 type veth peer name up1", "link set up0 up", "link set up1 up")
    batch = f"{host.directory}/routes"
    try:
        for verb in ("add", "delete"):
            with open(batch, "w") as file:
                for number in range(count):
                    if number % 4:
                        file.write(f"route {verb} 11.{number >> 16 & 255}.{number >> 8 & 255}.{number & 255}/32 dev up0 proto 186\n")
                    else:
                        file.write(f"route {verb} fd99::{number >> 16:x}:{number & 0xffff:x}/128 dev up0 proto 186\n")
            with Traffic(host) as traffic:
                cpu, started = host.cpu(), time.monotonic()
                run("ip", "-n", host.namespace, "-batch", batch, check=True)
                # Whatever has arrived is worked off before this is: a change of policy goes through the same loop.
                host.in_sync(host.store.put(*policy(f"after-{verb}", {"selector": "role == 'nobody'"})))
                took, cpu = time.monotonic() - started, host.cpu() - cpu
                traffic.goes_on("with foreign routes")
            expect(cpu <= 2.0, f"felix to compute no longer than 2 s for {count} foreign routes ({verb})", f"{cpu:.2f} s")
            if verb == "add":
                added, words = (cpu, took), traffic.words
                # At rest they cost nothing.
                resting = host.cpu()
                with Traffic(host) as traffic:
                    traffic.goes_on("at rest", 10)
                resting = host.cpu() - resting
                changes = timed("a deleted route of ours comes back", 5, lambda: True)
                server = host.workloads["server"]
                host.exec("ip", "route", "delete", f"{server.v4}/32", check=True)
                changes = timed("a deleted route of ours comes back", 5, lambda: server.v4 in host.exec("ip", "route", "show", f"{server.v4}/32"))
                expect(resting <= 0.3, "felix to be at rest with them", f"{resting:.2f} s of CPU")
                theirs = sum(len(host.exec("ip", f, "route", "show", "proto", "186").splitlines()) for f in ("-4", "-6"))
                expect_equal(theirs, count, "foreign routes")
    finally:
        host.exec("ip", "link", "delete", "up0")
        for verb in ("add", "delete"):
            host.store.delete(policy(f"after-{verb}", {})[0])
    converged(host, before, "after them")
    return f"{count} added in {added[1]:.1f} s: {added[0]:.2f} s of felix's CPU; deleted: {cpu:.2f} s; our own route back after {changes:.0f} ms beside them; {words}"


# Interfaces

def interfaces_disturbed(host):
    server = host.workloads["server"]
    name = server.interface
    before = host.kernel()
    times = {}

    def disturb(what, *commands, undo=(), settled=None):
        host_commands = [words.split() for words in commands]
        for words in host_commands:
            host.exec(*words, check=True)
        if undo:
            wait_until(f"felix has noticed: {what}", 3, lambda: not next(
                (e for e in host.status()["endpoints"] if e["interface"] == name and e["state"] == "up"), None))
            for words in undo:
                host.exec(*words.split(), check=True)
        times[what] = timed(lambda: f"{what}: {differences(before, host.kernel())[:4]}", REPAIRED + 9, lambda: host.kernel() == before)

    with Traffic(host, lost_seconds=5) as traffic:
        disturb("renamed and named back", f"ip link set {name} name calirenamed", undo=[f"ip link set calirenamed name {name}"])
        traffic.goes_on("after the renaming")
        disturb("down and up", f"ip link set {name} down", undo=[f"ip link set {name} up"])
        traffic.goes_on("after down and up")
    with Traffic(host, lost_seconds=REPAIRED) as traffic:
        disturb("another MAC address", f"ip link set {name} address 02:99:00:00:00:01")
        mac = next(link["address"] for link in host.json("ip", "-j", "link") if link["ifname"] == name)
        wait_until("the MAC address is back", 3, lambda: f"link/ether {GATEWAY_MAC}" in host.exec("ip", "link", "show", name))
        traffic.goes_on("after another MAC address")
        for what, command in (
            ("neighbours flushed", f"ip neigh flush dev {name} nud permanent"),
            ("a neighbour replaced", f"ip neigh replace {server.v4} lladdr 02:99:00:00:00:02 dev {name} nud permanent"),
            ("a neighbour of IPv6 replaced", f"ip neigh replace {server.v6} lladdr 02:99:00:00:00:02 dev {name} nud permanent"),
            ("gateway address deleted", f"ip address delete 169.254.1.1/32 dev {name}"),
            ("IPv6 switched off", f"sysctl -qw net.ipv6.conf.{name}.disable_ipv6=1"),
            ("ip_forward off", "sysctl -qw net.ipv4.ip_forward=0"), ("IPv6 forwarding off", "sysctl -qw net.ipv6.conf.all.forwarding=0"),
            ("forwarding of the interface off", f"sysctl -qw net.ipv4.conf.{name}.forwarding=0"),
            ("IPv6 forwarding of the interface off", f"sysctl -qw net.ipv6.conf.{name}.forwarding=0"),
            ("proxy_arp off", f"sysctl -qw net.ipv4.conf.{name}.proxy_arp=0"), ("proxy_ndp off", f"sysctl -qw net.ipv6.conf.{name}.proxy_ndp=0"),
        ):
            disturb(what, command)
            traffic.goes_on(f"after: {what}")
        # rp_filter is nobody's: source addresses are checked by the rules, whatever it says.
        for value in ("1", "2", "0"):
            host.exec("sysctl", "-qw", f"net.ipv4.conf.all.rp_filter={value}", f"net.ipv4.conf.{name}.rp_filter={value}", check=True)
            traffic.goes_on(f"with rp_filter {value}")
    words = traffic.words
    # Deleted and made again: another index, the same endpoint.
    with Traffic(host, lost_seconds=10) as traffic:
        host.exec("ip", "link", "delete", name, check=True)
        wait_until("felix has noticed the deletion", 3, lambda: next(e for e in host.status()["endpoints"] if e["interface"] == name)["state"] != "up")
        server.cable()
        times["deleted and made again"] = timed(lambda: f"made again: {differences(before, host.kernel())[:4]}", 10, lambda: host.kernel() == before)
        traffic.goes_on("after deletion and creation", 10)
    converged(host, before, "after all of it")
    slow = {what: round(took) for what, took in times.items() if took > REPAIRED * 1000}
    expect(not slow, f"each to be right again within {REPAIRED} s", slow)
    return "right again and seen to be within " + ", ".join(f"{took:.0f} ms ({what})" for what, took in sorted(times.items(), key=lambda x: -x[1])[:3]) + f"; {words}"


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


# Messages lost

def notifications_lost(host, count=60_000):
    """More happens than the socket can hold while felix does not listen, and it goes on while everything is read anew."""
    before = host.kernel()
    server = host.workloads["server"]
    ip(host.namespace, "link add up0 type veth peer name up1", "link set up0 up", "link set up1 up")
    stopping = threading.Event()

    def churn():
        # Dumps meanwhile meet a table that changes under them (NLM_F_DUMP_INTR).
        lines = [f"route {verb} 11.9.{n}.0/24 dev up0" for n in range(200) for verb in ("add", "delete")]
        while not stopping.is_set():
            ip(host.namespace, *lines, check=False)
    thread = threading.Thread(target=churn)
    try:
        with Traffic(host, lost_seconds=60) as traffic:
            os.kill(host.felix.pid, signal.SIGSTOP)
            ip(host.namespace, *[f"route add 11.{n >> 16 & 255}.{n >> 8 & 255}.{n & 255}/32 dev up0 proto 186" for n in range(count)])
            # What happens now is told to nobody.
            lost = overruns(host)
            host.exec("ip", "route", "delete", f"{server.v4}/32", check=True)
            host.exec("ip", "-6", "route", "flush", "proto", "80", check=True)
            host.exec("ip", "neigh", "flush", "dev", server.interface, "nud", "permanent", check=True)
            host.exec("sysctl", "-qw", "net.ipv4.ip_forward=0", check=True)
            thread.start()
            os.kill(host.felix.pid, signal.SIGCONT)
            took = timed(lambda: f"everything is right again: {differences(before, host.kernel())[:3]}", 15, lambda: host.kernel() == before)
            traffic.goes_on("after the repair")
            stopping.set()
            thread.join()
    finally:
        stopping.set()
        host.exec("ip", "link", "delete", "up0")
    expect(lost > 0, "the kernel to have dropped notifications of felix's", lost)
    converged(host, before, "after the flood")
    return f"{lost} notifications lost, right again {took:.0f} ms after felix listens again; {traffic.words}"


def overruns(host):
    """Notifications that the kernel dropped of felix's netlink sockets."""
    lines = open(f"/proc/{host.felix.pid}/net/netlink").read().splitlines()[1:]
    ours = {os.readlink(f"/proc/{host.felix.pid}/fd/{fd}") for fd in os.listdir(f"/proc/{host.felix.pid}/fd")}
    return sum(int(line.split()[8]) for line in lines if f"socket:[{line.split()[9]}]" in ours)


# The datastore

def datastore_gone(host, seconds=180 if LONG else 8):
    """Gone while everything is disturbed: the last good state stays and is repaired; what changes meanwhile comes afterwards."""
    before = host.kernel()
    server = host.workloads["server"]
    with Traffic(host, lost_seconds=REPAIRED) as traffic:
        host.stop_etcd()
        wait_until("felix says that the datastore is gone", 10, lambda: host.status()["datastore"] != "connected")
        until, deeds, worst = time.monotonic() + seconds, 0, 0
        while time.monotonic() < until:
            for words in (
                f"ip route delete {server.v4}/32", f"ip neigh flush dev {server.interface} nud permanent", "ip -6 route flush proto 80",
                f"sysctl -qw net.ipv4.conf.{server.interface}.forwarding=0", "nft flush ruleset",
            ):
                host.exec(*words.split(), check=True)
                worst = max(worst, timed(lambda: f"`{words}` is undone: {differences(before, host.kernel())[:3]}", 5, lambda: host.kernel() == before))
                deeds += 1
        status = host.status()
        expect_equal(status["inSync"], True, "in sync: the kernel holds all that is known")
        host.start_etcd()
        key, document = policy("afterwards", {
            "selector": "role == 'server'", "types": ["Ingress"], "order": 20, "ingress": [rule("Allow", "TCP", "role == 'client'", [81])]})
        host.in_sync(host.store.put(key, document))
        expect("policy-in-np/default/afterwards" in host.exec("nft", "list", "table", "inet", "margay"), "the policy that was written afterwards")
        host.in_sync(host.store.delete(key))
        traffic.goes_on("with the datastore again")
    converged(host, before, "after the outage")
    return f"{deeds} disturbances, undone and seen to be within {worst:.0f} ms at most; {traffic.words}"


# The agent

class Changes:
    """Writes, without pause, what changes rules, sets, maps and routes, and never whom policy allows or denies of those who talk."""

    def __init__(self, host, pause=0.002):
        self.host, self.pause = host, pause
        self.count, self.problem = 0, None
        self.stopping = threading.Event()
        self.thread = threading.Thread(target=self._run, daemon=True)
        self.thread.start()

    def _step(self, number):
        store, loads = self.host.store, self.host.workloads
        thief, client = loads["thief"], loads["client"]
        deny_late = policy("late", {"selector": "role == 'server'", "order": 1000 + number % 7, "types": ["Ingress"], "ingress": [rule("Deny", "UDP", None, [5000 + number % 9])]})
        pass_early = policy("early", {"selector": "role == 'server'", "order": 1, "types": ["Ingress"], "ingress": [
            rule("Deny", "UDP", "role == 'thief'", [5000]), rule("Deny", "TCP", f"odd == '{number % 5}' && role == 'thief'"), rule("Pass", "UDP", "role == 'stranger'")]})
        match number % 8:
            case 0: store.put(*deny_late)
            case 1: store.put(*pass_early)
            case 2: store.put(thief.key, {**thief.record(), "metadata": {**thief.record()["metadata"], "labels": {"role": "thief", "odd": str(number % 5)}}})
            case 3: store.put(client.key, {**client.record(), "metadata": {**client.record()["metadata"], "labels": {"role": "client", "turn": str(number)}}})
            case 4:
                far = {**thief.record(node="h2", ipNetworks=[f"10.99.{number // 8 % 250}.1/32", f"fd99::{number % 4000:x}/128"], interfaceName="caliaway")}
                far["metadata"] = {"name": f"h2-k8s-far{number // 8 % 20}-eth0", "namespace": "default", "labels": {"role": "thief"}}
                far["spec"]["pod"] = f"far{number // 8 % 20}"
                store.put(f"{ROOT}/workloadendpoints/default/{far['metadata']['name']}", far)
            case 5: store.delete(deny_late[0])
            case 6: store.delete(pass_early[0])
            case 7:
                number = number // 8 % 20
                store.delete(f"{ROOT}/workloadendpoints/default/h2-k8s-far{number}-eth0")

    def _run(self):
        try:
            while not self.stopping.is_set():
                self._step(self.count)
                self.count += 1
                self.stopping.wait(self.pause)
        except Exception as error:
            self.problem = repr(error)

    def end(self):
        self.stopping.set()
        self.thread.join(10)
        expect(self.problem is None, "the changes to be written", self.problem)
        store, loads = self.host.store, self.host.workloads
        return store.transact(
            puts=[(loads[name].key, loads[name].record()) for name in ("thief", "client")],
            deletes=[policy("late", {})[0], policy("early", {})[0]] + [f"{ROOT}/workloadendpoints/default/h2-k8s-far{n}-eth0" for n in range(20)])


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


def fresh_start_makes_the_same(host):
    """After all that was done to this host: a kernel that is made from nothing is the one that stands."""
    stands = host.kernel()
    host.kill_felix()
    host.exec("nft", "delete", "table", "inet", "margay")
    for family in ("-4", "-6"):
        host.exec("ip", family, "route", "flush", "proto", "80")
    host.exec("sh", "-c", "for i in /sys/class/net/cali*; do ip neigh flush dev ${i##*/} nud permanent; done")
    host.start_felix()
    expect_same(stands, host.kernel(), "as it is when made from nothing")
    return f"{sum(host.sizes().values())} objects"


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


# Others' tables

def foreign_tables(host):
    """kube-proxy's, Docker's and firewalld's tables beside ours: their services work, our policy decides, and not one octet of theirs changes."""
    import foreign
    server, client, thief = (host.workloads[name] for name in ("server", "client", "thief"))
    fill = lambda text: text.replace("SERVER", server.v4)
    ours = host.kernel()
    host.exec("nft", "-f", "-", input=fill(foreign.KUBE_PROXY_NFT), check=True)
    host.exec("nft", "-f", "-", input=foreign.FIREWALLD, check=True)
    for text in (fill(foreign.KUBE_PROXY_IPTABLES), foreign.DOCKER_IPTABLES):
        host.exec("iptables-nft-restore", "--noflush", input=text, check=True)
    try:
        # Docker's chain drops what nobody accepts: our verdict cannot overrule another table's. That must be said.
        wait_until(lambda: f"felix says whose table drops what policy allows: {host.status()['problems']}", 5, lambda: any(
            "table ip filter" in problem and "FORWARD" in problem and "drops" in problem for problem in host.status()["problems"]))
        expect(not tcp_reaches(client.namespace, server.v4, 80, 0.5), "Docker's chain to drop what nobody accepts")
        for words in foreign.DOCKER_USER:
            host.exec("iptables-nft", "-A", "DOCKER-USER", *words.split(), check=True)
        tables = lambda: {name: str(host.exec("nft", "-s", "list", "table", *name.split(), check=True))
                          for name in ("ip kube-proxy", "ip nat", "ip filter", "inet firewalld")}
        theirs = tables()
        with Traffic(host) as traffic:
            for address, port in (("10.96.0.10", 80), ("10.97.0.10", 80)):
                expect(tcp_reaches(client.namespace, address, port), f"the client to reach the server by its service {address}:{port}")
                expect(not tcp_reaches(thief.namespace, address, port, 0.4), f"the thief not to reach the server by its service {address}:{port}")
            expect(udp_echo(client.namespace, "10.96.0.10", 5000, b"by service"), "the client to reach the server by its UDP service")
            expect(not udp_echo(thief.namespace, "10.96.0.10", 5000, b"denied by service", 0.4), "the thief not to reach it")
            expect(not tcp_reaches(client.namespace, "10.96.0.10", 81, 0.4), "kube-proxy's own refusal of a port that the service has not")
            changes = Changes(host)
            wait_until("a hundred changes", 20, lambda: changes.count >= 100 or changes.problem)
            host.restart_felix()
            host.in_sync(changes.end())
            traffic.goes_on("beside the others")
        expect_equal(tables(), theirs, "others' tables after changes and a restart")
        expect_same(ours, host.kernel(), "beside the others")
    finally:
        for name in ("ip kube-proxy", "ip nat", "ip filter", "inet firewalld"):
            host.exec("nft", "delete", "table", *name.split())
    converged(host, ours, "after the others are gone")
    return traffic.words


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


# The fail-safe rules

def fail_safe(host):
    """What cannot be read or enforced, written by another program: what it does to packets, and that status, log, metric and `get` tell of it."""
    client, server, thief = (host.workloads[name] for name in ("client", "server", "thief"))

    def visible(key, kind, name, words):
        object_name = f"{kind}(default/{name})" if kind == "NetworkPolicy" else f"{kind}({name})"
        status = host.status()
        found = [f["finding"] for f in status["findings"] if name in f["object"]]
        expect(found and words in found[0], f"{object_name} among the findings of the status, with \"{words}\"", status["findings"])
        expect(any(name in line and words in line for line in open(f"{host.directory}/felix.log", errors="replace")), f"a line of the log on {name} with \"{words}\"",
               host.log_tail())
        metrics = host.exec("curl", "-s", "http://localhost:9099/metrics")
        count = next((line.split()[1] for line in metrics.splitlines() if line.startswith("margay_felix_findings ")), None)
        expect(count and float(count) >= 1, "margay_felix_findings to count it", count)
        listed = host.exec(MARGAY, "get", "--invalid", "--datastore", "etcd://127.0.0.1:2379")
        expect(name in listed, f"`margay get --invalid` to show {name}", listed)
        told = host.exec(MARGAY, "node", "status", "--run-dir", f"{host.directory}/run")
        expect(name in told and told.code != 0, f"`margay node status` to show {name}, and an exit code", f"{told.code}: {told[:600]}")

    def written(key, document):
        host.in_sync(host.store.put(key, document))
    words = []
    odd = host.workloads.get("odd") or host.add(Workload(host, "odd", 7, {"role": "odd"}))
    host.in_sync()
    with Traffic(host) as traffic:
        # A rule that cannot be enforced denies at its own place: what stands before it is allowed, what stands behind it is not.
        key, document = policy("odd", {"selector": "role == 'odd'", "order": 5, "types": ["Ingress"], "ingress": [
            rule("Allow", "TCP", "role == 'thief'", [81]), {"action": "Permit", "protocol": "TCP", "destination": {"ports": [82]}},
            rule("Allow", "TCP", "role == 'thief'", [82])]})
        written(key, document)
        with Echo(odd.namespace, tcp=[81, 82]):
            expect(tcp_reaches(thief.namespace, odd.v4, 81) and tcp_reaches(thief.namespace, odd.v6, 81), "what is allowed before the rule")
            expect(not tcp_reaches(thief.namespace, odd.v4, 82, 0.3) and not tcp_reaches(thief.namespace, odd.v6, 82, 0.3), "what comes behind it denied")
            visible(key, "NetworkPolicy", "odd", "rule 2")
            words.append("rule")
            # Its next version has a selector that cannot be read: the last good one stays.
            written(*policy("odd", {"selector": "role ==", "order": 5, "ingress": [{"action": "Allow"}]}))
            expect(tcp_reaches(thief.namespace, odd.v4, 81) and not tcp_reaches(thief.namespace, odd.v4, 82, 0.3), "the last good version in force")
            visible(key, "NetworkPolicy", "odd", "last readable version")
            words.append("last version")
            # A start knows no last version: a namespaced policy denies in its namespace. The flows that stand are established, and stay.
            host.restart_felix()
            visible(key, "NetworkPolicy", "odd", "denies")
            expect(not tcp_reaches(thief.namespace, odd.v4, 81, 0.3) and not tcp_reaches(client.namespace, server.v6, 80, 0.3), "everything of the namespace denied")
            words.append("namespace")
            host.in_sync(host.store.delete(key))
            expect(tcp_reaches(client.namespace, server.v6, 80), "all well again without it")
        # Of a global policy nobody knows whom it would mean: told, and nothing denied. So are policies of host endpoints, and staged ones.
        for kind, name, spec in (
            ("GlobalNetworkPolicy", "global-odd", {"selector": "role ==", "ingress": [{"action": "Deny"}]}),
            ("GlobalNetworkPolicy", "untracked-odd", {"selector": "role ==", "doNotTrack": True, "applyOnForward": True, "ingress": [{"action": "Deny"}]}),
            ("GlobalNetworkPolicy", "early-odd", {"selector": "role ==", "preDNAT": True, "applyOnForward": True, "ingress": [{"action": "Deny"}]}),
            ("StagedNetworkPolicy", "staged-odd", {"selector": "role ==", "ingress": [{"action": "Deny"}]}),
        ):
            key, document = policy(name, spec, kind)
            written(key, document)
            expect(tcp_reaches(client.namespace, server.v4, 80) and tcp_reaches(client.namespace, server.v6, 80), f"{name} to deny nothing")
            visible(key, kind, name, "selector")
            host.in_sync(host.store.delete(key))
            words.append(name)
        traffic.goes_on("after all of it")
    return ", ".join(words) + f"; {traffic.words}"


GROUPS = [
    ("robust", "What others do to a host, with traffic running", [
        ("the table of a living agent", table_of_a_living_agent),
        ("the table of a dead agent", table_of_a_dead_agent),
        ("a table that others can edit", table_without_owner),
        ("routes deleted: one, all, blackholes", routes_deleted),
        ("100,000 foreign routes", foreign_routes),
        ("interfaces renamed, switched, deleted; MAC, neighbours, sysctls", interfaces_disturbed),
        ("notifications lost, dumps interrupted", notifications_lost),
        ("the datastore gone while everything is disturbed", datastore_gone),
        ("tables of kube-proxy, Docker and firewalld", foreign_tables),
        ("what cannot be read or enforced fails safe, and is seen", fail_safe),
        ("a kernel made from nothing is the one that stands", fresh_start_makes_the_same),
    ]),
    ("churn", "Everything changes, with traffic running", [
        ("records before interfaces and interfaces before records", endpoints_and_interfaces_in_any_order),
        ("policies switched under fire", switched_under_fire),
        ("kill -9 at random moments, under changes", killed_at_random_moments),
        ("200 endpoints made and taken away each second", endpoints_come_and_go),
        ("a kernel made from nothing is the one that stands", fresh_start_makes_the_same),
    ]),
]


def run_group(claim, bodies):
    host = Host()
    try:
        host.up()
        for text, body in bodies:
            if not claim(text, body, host):
                host.mend()
    finally:
        host.down()
