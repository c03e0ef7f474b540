"""VXLAN between hosts, seen by tcpdump and counted by ping while pools change their encapsulation."""

import os
import re
import subprocess

from claims import expect, expect_equal, wait_until
from labs import HERE, Lab, margay, run

FILE = os.path.join(os.path.dirname(HERE), "Examples", "vxlan.yaml")


class TunnelLab(Lab):
    def __init__(self):
        super().__init__("tun")

    def up(self):
        return margay("lab", "up", "-f", FILE, "--name", self.name, seconds=60)

    def ip(self, host, *words):
        return run("ip", "-n", self.namespace(host), *words, check=True)

    def pools(self, mode):
        text = "".join(
            "---\napiVersion: projectcalico.org/v3\nkind: IPPool\nmetadata: {name: %s}\nspec: {cidr: \"%s\", blockSize: %d, vxlanMode: %s}\n"
            % (name, cidr, size, mode) for name, cidr, size in (("pool-v4", "10.65.0.0/16", 26), ("pool-v6", "fd65::/64", 122)))
        margay("apply", "-f", "-", "--datastore", self.datastore, input=text, check=True)

    def ends(self):
        pods = self.workloads()
        one, two = pods["pod1"], pods["pod2"]
        expect(one.host != two.host, "the two workloads are on two hosts")
        return one, two

    def leads_into_tunnel(self, host, far):
        v4 = self.ip(host, "route", "get", far.v4)
        v6 = self.ip(host, "-6", "route", "get", far.v6)
        return "dev vxlan.calico" in v4 and "dev vxlan-v6.calico" in v6


def comes_up(lab):
    output = lab.up()
    expect(output.code == 0, "the lab comes up", output[-800:])
    one, two = lab.ends()
    for near, far in ((one, two), (two, one)):
        wait_until(f"{near.host} leads into its tunnels", 10, lambda: lab.leads_into_tunnel(near.host, far))
    for device, mtu in (("vxlan.calico", 1450), ("vxlan-v6.calico", 1430)):
        link = lab.ip("host1", "-d", "link", "show", device)
        expect(f"mtu {mtu}" in link and "vxlan id 4096" in link and "dstport 4789" in link, f"{device} as it should be", link)
    return "both families"


def on_the_wire(lab):
    """The packets between the hosts are VXLAN, and only that."""
    one, two = lab.ends()
    for family, address in ((4, two.v4), (6, two.v6)):
        watch = subprocess.Popen(
            ["ip", "netns", "exec", lab.namespace(two.host), "tcpdump", "-lnni", "eth0", "-c", "4", "host", address, "or", "udp", "port", "4789"],
            stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        while "listening on" not in watch.stderr.readline():
            pass
        expect_equal(run("ip", "netns", "exec", one.namespace, "ping", "-c", "4", "-i", "0.2", "-W", "2", address).code, 0, f"ping IPv{family}")
        seen, _ = watch.communicate(timeout=15)
        outer = [line for line in seen.splitlines() if ".4789: VXLAN" in line]
        expect(len(outer) == 4, "every packet that tcpdump saw is VXLAN", seen)
    return "ping inside UDP 4789"


class Ping:
    """A hundred packets each second for three seconds."""

    COUNT = 300

    def __init__(self, workload, address):
        self.process = subprocess.Popen(
            ["ip", "netns", "exec", workload.namespace, "ping", "-q", "-i", "0.01", "-c", f"{self.COUNT}", "-W", "1", address],
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)

    def lost(self):
        output, _ = self.process.communicate(timeout=20)
        sent, received = map(int, re.search(r"(\d+) packets transmitted, (\d+) received", output).groups())
        expect(sent == self.COUNT, "all packets were sent", output)
        return sent - received


def switched_live(lab):
    """Pools lose their encapsulation and get it again, twice; what is lost of a hundred packets each second, both families, is counted."""
    one, two = lab.ends()
    answers = []
    for mode in ("Never", "Always") * 2:
        pings = [Ping(one, two.v4), Ping(one, two.v6)]
        lab.pools(mode)
        for near, far in ((one, two), (two, one)):
            for word, address, device in (("-4", far.v4, "vxlan.calico"), ("-6", far.v6, "vxlan-v6.calico")):
                wait_until(
                    f"{near.host}: the route to {address} with vxlanMode {mode}", 15,
                    lambda: (f"dev {device}" in lab.ip(near.host, word, "route", "get", address)) == (mode == "Always"))
        lost = [ping.lost() for ping in pings]
        expect(sum(lost) <= 2, f"packets lost with vxlanMode {mode} (IPv4, IPv6)", f"{lost}")
        answers.append(f"{mode} {sum(lost)}")
    return f"lost of {2 * Ping.COUNT} packets each: {', '.join(answers)}"


def survives_a_stranger(lab):
    """Somebody deletes the interface: it comes back with its neighbours, and with the routes."""
    one, two = lab.ends()
    run("ip", "-n", lab.namespace(one.host), "link", "delete", "vxlan.calico", check=True)
    wait_until("the tunnel is back", 10, lambda: lab.leads_into_tunnel(one.host, two))
    expect_equal(run("ip", "netns", "exec", one.namespace, "ping", "-c", "1", "-W", "2", two.v4).code, 0, "ping through it")
    return "back, with routes"


def run_all(claim):
    lab = TunnelLab()
    try:
        if not claim("two hosts with VXLAN pools come up, the kernel has both tunnels", comes_up, lab):
            return
        claim("tcpdump: what workloads send each other is UDP 4789 between the hosts", on_the_wire, lab)
        claim("pools change from VXLAN to none and back while packets flow", switched_live, lab)
        claim("the tunnel's interface is deleted by somebody", survives_a_stranger, lab)
    finally:
        lab.down()
