"""VXLAN between hosts, seen by tcpdump and counted by ping while pools change their encapsulation."""

import os
import re
import subprocess

import claims_mobility
from claims import expect, expect_equal, wait_until
from labs import HERE, MARGAY, PREFIX, WORK, Background, Lab, margay, run

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
    """A hundred packets each second until it is stopped."""

    def __init__(self, workload, address):
        self.process = subprocess.Popen(
            ["ip", "netns", "exec", workload.namespace, "ping", "-q", "-i", "0.01", "-W", "1", address], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)

    def stop(self):
        self.process.send_signal(2)
        output, _ = self.process.communicate(timeout=10)
        sent, received = re.search(r"(\d+) packets transmitted, (\d+) received", output).groups()
        return int(sent), int(received)


def switched_live(lab):
    """Pools lose their encapsulation and get it again; what is lost of a hundred packets each second, both families, is counted."""
    one, two = lab.ends()
    answers = []
    for mode, inside in (("Never", False), ("Always", True)):
        pings = [Ping(one, two.v4), Ping(one, two.v6)]
        try:
            lab.pools(mode)
            for near, far in ((one, two), (two, one)):
                wait_until(f"{near.host}: routes with vxlanMode {mode}", 15, lambda: lab.leads_into_tunnel(near.host, far) == inside)
        finally:
            counts = [ping.stop() for ping in pings]
        for sent, received in counts:
            expect(sent >= 20, "packets were sent meanwhile", f"{sent}")
            # One reply may be on its way when ping is stopped.
            expect(sent - received <= 2, f"packets lost with vxlanMode {mode}", f"{sent - received} of {sent}")
        answers.append(f"{mode}: {sum(s - r for s, r in counts)} of {sum(s for s, _ in counts)} lost")
    wait_until("what the other owner did not take is gone", 15, lambda: lab.leads_into_tunnel("host1", two))
    return "; ".join(answers)


def survives_a_stranger(lab):
    """Somebody deletes the interface: it comes back with its neighbours, and with the routes."""
    one, two = lab.ends()
    run("ip", "-n", lab.namespace(one.host), "link", "delete", "vxlan.calico", check=True)
    wait_until("the tunnel is back", 10, lambda: lab.leads_into_tunnel(one.host, two))
    expect_equal(run("ip", "netns", "exec", one.namespace, "ping", "-c", "1", "-W", "2", two.v4).code, 0, "ping through it")
    return "back, with routes"


class Subnets:
    """Three hosts made by hand: `h1` and `h2` in one subnet, `h3` behind a router; `margay felix` on each, and nobody speaks BGP."""

    POOLS = "".join(
        f'---\napiVersion: projectcalico.org/v3\nkind: IPPool\nmetadata: {{name: {name}}}\nspec: {{cidr: "{cidr}", blockSize: {size}, vxlanMode: CrossSubnet}}\n'
        for name, cidr, size in (("v4", "10.67.0.0/16", 26), ("v6", "fd67::/64", 122)))

    def __init__(self):
        self.name = f"{PREFIX}x"
        self.directory = f"{WORK}/subnets-{os.urandom(3).hex()}"
        os.makedirs(self.directory)
        self.datastore = f"sqlite:{self.directory}/datastore.sqlite"
        self.namespaces, self.programs, self.pods = [], [], {}

    def namespace(self, place):
        return f"{self.name}-{place}"

    def place(self, name, forwards=True):
        run("ip", "netns", "add", self.namespace(name), check=True)
        self.namespaces.append(name)
        run("ip", "-n", self.namespace(name), "link", "set", "lo", "up", check=True)
        if forwards:
            run("ip", "netns", "exec", self.namespace(name), "sysctl", "-qw", "net.ipv4.ip_forward=1", "net.ipv6.conf.all.forwarding=1", check=True)

    def up(self):
        self.place("r")
        for net, hosts in (("a", (1, 2)), ("b", (3,))):
            number = 1 if net == "a" else 2
            run("ip", "-n", self.namespace("r"), "link", "add", net, "type", "bridge", check=True)
            for address in (f"172.31.{number}.254/24", f"fd31:{number}::fe/64"):
                run("ip", "-n", self.namespace("r"), "address", "add", address, "dev", net, *(["nodad"] if ":" in address else []), check=True)
            run("ip", "-n", self.namespace("r"), "link", "set", net, "up", check=True)
            for n in hosts:
                host = f"h{n}"
                self.place(host)
                run("ip", "link", "add", f"to{n}", "netns", self.namespace("r"), "type", "veth", "peer", "name", "eth0", "netns", self.namespace(host),
                    check=True)
                run("ip", "-n", self.namespace("r"), "link", "set", f"to{n}", "master", net, "up", check=True)
                own = (f"172.31.{number}.{n}/24", f"fd31:{number}::{n}/64")
                for address in own:
                    run("ip", "-n", self.namespace(host), "address", "add", address, "dev", "eth0", *(["nodad"] if ":" in address else []), check=True)
                run("ip", "-n", self.namespace(host), "link", "set", "eth0", "up", check=True)
                run("ip", "-n", self.namespace(host), "route", "add", "172.31.0.0/16", "via", f"172.31.{number}.254", check=True)
                run("ip", "-n", self.namespace(host), "-6", "route", "add", "fd31::/16", "via", f"fd31:{number}::fe", check=True)
                node = f'---\napiVersion: projectcalico.org/v3\nkind: Node\nmetadata: {{name: {host}}}\nspec: {{bgp: {{ipv4Address: {own[0]}, ipv6Address: "{own[1]}"}}}}\n'
                profile = "---\napiVersion: projectcalico.org/v3\nkind: Profile\nmetadata: {name: kns.x}\nspec: {ingress: [{action: Allow}], egress: [{action: Allow}]}\n"
                margay("apply", "-f", "-", "--datastore", self.datastore, input=self.POOLS + node + profile, check=True)
        for n in (1, 2, 3):
            host = f"h{n}"
            os.makedirs(f"{self.directory}/{host}")
            self.programs.append(
                Background(
                    "ip", "netns", "exec", self.namespace(host), MARGAY, "felix", "--name", host, "--datastore", self.datastore, "--run-dir",
                    f"{self.directory}/{host}", "--state-dir", f"{self.directory}/{host}/state"))
        for n in (1, 2, 3):
            wait_until(lambda: f"felix of h{n} serves: {self.programs[n - 1].text[-400:]}", 15, lambda: os.path.exists(f"{self.directory}/h{n}/cni.sock"))
            self.place(f"w{n}", forwards=False)
            self.pods[n] = claims_mobility.cni(self, f"h{n}", f"w{n}", "x", {"app": "x"}, "ADD", f"{n:064x}")

    def down(self):
        for program in self.programs:
            program.process.kill()
            program.process.wait(5)
        for name in self.namespaces:
            run("ip", "netns", "delete", self.namespace(name))


def cross_subnet():
    """In one subnet straight to the other host, across subnets through VXLAN; both families, every pair."""
    place = Subnets()
    try:
        place.up()

        def way(near, address):
            return run("ip", "-n", place.namespace(f"h{near}"), *(["-6"] if ":" in address else []), "route", "get", address)

        for near in (1, 2, 3):
            for far in (1, 2, 3):
                for address in place.pods[far] if near != far else ():
                    device = "vxlan-v6.calico" if ":" in address else "vxlan.calico"
                    wait_until(
                        lambda: f"h{near} reaches {address} on h{far}: {way(near, address)}", 10,
                        lambda: ("dev eth0" if 3 not in (near, far) else f"dev {device}") in way(near, address))
                    ping = run("ip", "netns", "exec", place.namespace(f"w{near}"), "ping", "-c", "1", "-W", "2", address)
                    expect(ping.code == 0, f"ping from w{near} to {address}", ping)
        return "12 pairs"
    finally:
        place.down()


def run_all(claim):
    claim("CrossSubnet: three hosts on two subnets, no BGP", cross_subnet)
    lab = TunnelLab()
    try:
        if not claim("two hosts with VXLAN pools come up, the kernel has both tunnels", comes_up, lab):
            return
        claim("tcpdump: what workloads send each other is UDP 4789 between the hosts", on_the_wire, lab)
        claim("pools change from VXLAN to none and back while packets flow", switched_live, lab)
        claim("the tunnel's interface is deleted by somebody", survives_a_stranger, lab)
    finally:
        lab.down()
