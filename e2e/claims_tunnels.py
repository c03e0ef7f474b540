"""What others do to the tunnels between hosts, with traffic through them; and strangers who send into one."""

import socket
import struct
import time

from claims import expect, expect_equal, wait_until
from labs import HERE, Lab, inside, margay
from packets import Port, ipv4, marker, udp
from traffic import Echo, Flows

UDP = 17
# From the deed to the far end's answer: the kernel tells, a round of felix follows.
REPAIRED = 2.0


def _silence(flows):
    worst = (0.0, "no flow")
    for flow in flows.flows:
        last = None
        moments = [(sent, number in flow.answered) for number, sent in enumerate(flow.times)] + [(moment, False) for moment in flow.refused]
        for moment, answered in sorted(moments):
            if answered:
                last = moment
            elif last is not None:
                worst = max(worst, (moment - last, flow.name))
    return worst


def _counted(lab, host, comment):
    return sum(e["counter"]["packets"] for entry in lab.rules(host) if entry.get("rule", {}).get("comment") == comment
               for e in entry["rule"]["expr"] if "counter" in e)


class Tunnelled:
    """The lab of Examples/vxlan.yaml, and a workload on each host."""

    def __init__(self):
        self.lab = Lab("v")

    def up(self):
        margay("lab", "up", "--name", self.lab.name, "-f", f"{HERE}/../Examples/vxlan.yaml", check=True, seconds=120)
        loads = self.lab.workloads().values()
        self.near, self.far = (next(load for load in loads if load.host == host) for host in ("host1", "host2"))

    def down(self):
        self.lab.down()

    def stands(self):
        exec = lambda *words: sorted(line.strip() for line in self.lab.exec("host1", *words).splitlines())
        links = [(link["ifname"], link["address"], link["mtu"], "UP" in link["flags"], sorted(a["local"] for a in link["addr_info"] if a["scope"] == "global"))
                 for link in self.lab.json("host1", "ip", "-j", "address") if link["ifname"].startswith("vxlan")]
        return (sorted(links), exec("bridge", "fdb", "show", "dev", "vxlan.calico"), exec("bridge", "fdb", "show", "dev", "vxlan-v6.calico"),
                [line for line in exec("ip", "neigh", "show", "nud", "permanent") if "vxlan" in line],
                exec("ip", "route", "show", "proto", "80"), exec("ip", "-6", "route", "show", "proto", "80"))


def disturbed(tunnelled):
    lab, near, far = tunnelled.lab, tunnelled.near, tunnelled.far
    before = tunnelled.stands()
    expect(len(before[0]) == 2 and before[1] and before[2] and len(before[3]) >= 2, "two tunnels with their ends", before)
    flows = Flows()
    times = {}
    with Echo(far.namespace, tcp=[80]):
        for family in (4, 6):
            flows.add("tcp", near, far.address(family), 80)
            flows.add("icmp", near, far.address(family))
        flows.start()
        try:
            mac4 = before[1][0].split()[0]
            for what, words in (
                ("forwarding entry deleted", f"bridge fdb delete {mac4} dev vxlan.calico"),
                ("neighbours flushed", "ip neigh flush dev vxlan.calico nud permanent"), ("IPv6 neighbours flushed", "ip -6 neigh flush dev vxlan-v6.calico nud permanent"),
                ("routes flushed", "ip route flush proto 80"), ("IPv6 routes flushed", "ip -6 route flush proto 80"),
                ("tunnel switched off", "ip link set vxlan.calico down"), ("tunnel's address flushed", "ip address flush dev vxlan.calico"),
                ("another MAC address", "ip link set vxlan-v6.calico address 02:99:00:00:00:01"),
                ("another size", "ip link set vxlan.calico mtu 1300"),
                ("tunnel deleted", "ip link delete vxlan.calico"), ("IPv6 tunnel deleted", "ip link delete vxlan-v6.calico"),
            ):
                lab.exec("host1", *words.split(), check=True)
                started = time.monotonic()
                difference = lambda: [(was, now) for was, now in zip(before, tunnelled.stands()) if was != now]
                wait_until(lambda: f"{what}: {difference()}", REPAIRED + 8, lambda: not difference())
                times[what] = time.monotonic() - started
                answered = [len(flow.answered) for flow in flows.flows]
                wait_until(lambda: f"every flow goes on after: {what}; {[(f.name, len(f.answered)) for f in flows.flows]}", 8,
                           lambda: all(len(flow.answered) >= count + 20 for flow, count in zip(flows.flows, answered)))
        finally:
            sent, _ = flows.finish()
    broken = [f"{flow.name}: {flow.problem}" for flow in flows.flows if flow.kind == "tcp" and flow.problem]
    expect(not broken, "no connection to break", broken)
    silence, whose = _silence(flows)
    expect(silence <= REPAIRED, f"no flow without answers for more than {REPAIRED} s", f"{silence:.2f} s, {whose}")
    slow = {what: round(took, 2) for what, took in times.items() if took > REPAIRED}
    expect(not slow, f"each right again within {REPAIRED} s", slow)
    worst = max(times, key=times.get)
    return f"right again within {times[worst] * 1000:.0f} ms ({worst}); {sent} requests, {sum(f.lost for f in flows.flows)} lost, at most {silence * 1000:.0f} ms without an answer"


def under_host_endpoints(tunnelled):
    """A host endpoint without policy denies all that is for the host, and not the tunnel that carries workloads' packets."""
    lab, near, far = tunnelled.lab, tunnelled.near, tunnelled.far
    names = [f"{host}-eth0" for host in ("host1", "host2")]
    # What holds the lab together stays open: this is about tunnels.
    lab.apply("".join(f"""
---
apiVersion: projectcalico.org/v3
kind: HostEndpoint
metadata: {{name: {name}}}
spec: {{node: {name[:5]}, interfaceName: eth0}}
""" for name in names))
    try:
        for host in ("host1", "host2"):
            wait_until(f"host endpoints in the rules of {host}", 10, lambda: "host-ingress" in lab.exec(host, "nft", "list", "table", "inet", "margay"))
        # An earlier exchange would be a live connection of the tunnel's own packets.
        for host in ("host1", "host2"):
            lab.exec(host, "conntrack", "-F")
        flows = Flows()
        with Echo(far.namespace, tcp=[80]):
            for family in (4, 6):
                flows.add("tcp", near, far.address(family), 80)
                flows.add("icmp", near, far.address(family))
            try:
                flows.start()
                wait_until("a hundred answers each", 10, lambda: all(len(flow.answered) >= 100 for flow in flows.flows))
            finally:
                sent, lost = flows.finish()
        expect(not lost, f"none of {sent} requests lost", lost)
        # The first packets of the tunnels' own connections were let through by their rule, before policy could deny them.
        expect(_counted(lab, "host2", "VXLAN among the cluster's hosts") > 0, "the tunnels' rule to count")
    finally:
        for name in names:
            margay("delete", "hostendpoint", name, "--datastore", lab.datastore)
    return f"{sent} requests through the tunnels, none lost"


def strangers_are_not_heard(tunnelled):
    """A tunnelled packet from an address that is no host's ends at the host, with one that is it arrives: so the packet itself was right."""
    lab, near, far = tunnelled.lab, tunnelled.near, tunnelled.far
    link = next(link for link in lab.json("host2", "ip", "-j", "address") if link["ifname"] == "vxlan.calico")
    mac = bytes.fromhex(link["address"].replace(":", ""))
    host1, host2 = (next(a["local"] for l in lab.json(h, "ip", "-j", "address") if l["ifname"] == "eth0" for a in l["addr_info"] if a["family"] == "inet")
                    for h in ("host1", "host2"))
    rack = lab.json("rack", "ip", "-j", "route", "get", host2)[0]
    counted = lambda: _counted(lab, "host2", "VXLAN from no host of the cluster")
    with inside(lab.namespace("rack")):
        raw = socket.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_RAW)
    with raw, Port(far.namespace) as watch:
        def send(source, payload):
            inner = mac + b"\x66\x00\x00\x00\x00\x01" + b"\x08\x00" + ipv4(near.v4, far.v4, UDP, udp(near.v4, far.v4, 40000, 80, payload))
            outer = struct.pack("!II", 0x08000000, 4096 << 8) + inner
            raw.sendto(ipv4(source, host2, UDP, udp(source, host2, 50000, 4789, outer)), (host2, 0))
        strange, known = marker("stranger"), marker("known")
        before = counted()
        send(rack["prefsrc"], strange)
        send(host1, known)
        frames = watch.seen_until(known)
        expect(not any(strange in frame for frame in frames), "nothing of the stranger's at the workload")
        expect_equal(counted() - before, 1, "packets counted by the rule")
    return "counted by the rule that names it"
