"""A fabric without Felix: two hosts with a workload each, a route reflector that is also the router between them, `margay bgp` on each.

What Felix would write (protocol 80) is written by hand, so that every change in the kernels is BGP's. The reflector is Margay or BIRD.
"""

import os
import signal
import subprocess

from claims import expect, wait_until
from labs import MARGAY, PREFIX, WORK, Background, Lab, margay, run
from traffic import Echo, Flows

BLOCKS = {1: ("10.66.1.0/26", "fd66:1::/122"), 2: ("10.66.2.0/26", "fd66:2::/122")}


class Place:
    """A workload as `Flows` wants it."""

    def __init__(self, name, namespace, v4, v6):
        self.name, self.namespace, self.v4, self.v6 = name, namespace, v4, v6

    def address(self, family):
        return self.v4 if family == 4 else self.v6


class Fabric:
    def __init__(self, reflector, restart_time=None, asn=(64512, 64512, 64512)):
        self.reflector = reflector
        self.restart_time = restart_time
        self.directory = f"{WORK}/fabric-{reflector}-{os.urandom(3).hex()}"
        os.makedirs(self.directory)
        self.datastore = f"sqlite:{self.directory}/datastore.sqlite"
        self.processes = {}
        self.monitors = {}
        self.places = {}
        self.namespaces = []
        try:
            self._wire()
            self._apply(self._documents())
            for name in ("rr", "h1", "h2"):
                self.start(name)
            self._settled("sessions come up")
        except BaseException:
            self.close()
            raise

    def ns(self, name):
        return f"{PREFIX}f{name}"

    def ip(self, name, *words, check=True):
        return run("ip", "-n", self.ns(name), *words, check=check)

    def _namespace(self, name):
        run("ip", "netns", "add", self.ns(name), check=True)
        self.namespaces.append(name)
        self.ip(name, "link", "set", "lo", "up")
        for key in ("net.ipv4.ip_forward", "net.ipv6.conf.all.forwarding"):
            run("ip", "netns", "exec", self.ns(name), "sysctl", "-qw", f"{key}={0 if name.startswith('w') else 1}", check=True)
        run("ip", "netns", "exec", self.ns(name), "sysctl", "-qw", "net.ipv6.conf.all.accept_dad=0", "net.ipv6.conf.default.accept_dad=0", check=True)

    def _cable(self, a, a_name, a_addresses, b, b_name, b_addresses):
        run("ip", "link", "add", a_name, "netns", self.ns(a), "type", "veth", "peer", "name", b_name, "netns", self.ns(b), check=True)
        for place, link, addresses in ((a, a_name, a_addresses), (b, b_name, b_addresses)):
            for address in addresses:
                self.ip(place, "address", "add", address, "dev", link, *(["nodad"] if ":" in address else []))
            self.ip(place, "link", "set", link, "up")

    def _wire(self):
        for name in ("rr", "h1", "h2", "w1", "w2"):
            self._namespace(name)
        for n in (1, 2):
            self._cable(f"h{n}", "eth0", [f"172.31.{n}.2/24", f"fd31:{n}::2/64"], "rr", f"to{n}", [f"172.31.{n}.1/24", f"fd31:{n}::1/64"])
            self._cable(f"h{n}", "cali1", ["169.254.1.1/32", "fe80::1/64"], f"w{n}", "eth0", [f"10.66.{n}.1/32", f"fd66:{n}::1/128"])
        for n in (1, 2):
            other = 3 - n
            self.ip(f"h{n}", "route", "add", f"172.31.{other}.0/24", "via", f"172.31.{n}.1")
            self.ip(f"h{n}", "-6", "route", "add", f"fd31:{other}::/64", "via", f"fd31:{n}::1")
            self.ip(f"w{n}", "route", "add", "169.254.1.1", "dev", "eth0")
            self.ip(f"w{n}", "route", "add", "default", "via", "169.254.1.1")
            self.ip(f"w{n}", "-6", "route", "add", "default", "via", "fe80::1", "dev", "eth0")
            for block in BLOCKS[n]:
                self.felix(n, "add", "blackhole", block)
            self.felix(n, "add", f"10.66.{n}.1/32", "dev", "cali1")
            self.felix(n, "add", f"fd66:{n}::1/128", "dev", "cali1")
            self.places[n] = Place(f"w{n}", self.ns(f"w{n}"), f"10.66.{n}.1", f"fd66:{n}::1")

    def felix(self, n, verb, *words):
        self.ip(f"h{n}", *(["-6"] if any(":" in word for word in words) else []), "route", verb, *words, "proto", "80")

    def _documents(self):
        text = """
apiVersion: projectcalico.org/v3
kind: IPPool
metadata: {name: four}
spec: {cidr: 10.66.0.0/16}
---
apiVersion: projectcalico.org/v3
kind: IPPool
metadata: {name: six}
spec: {cidr: "fd66::/24"}
---
apiVersion: projectcalico.org/v3
kind: BGPConfiguration
metadata: {name: default}
spec: {nodeToNodeMeshEnabled: false, asNumber: 64512}
"""
        more = f", maxRestartTime: {self.restart_time}s" if self.restart_time else ""
        for n in (1, 2):
            text += f"""
---
apiVersion: projectcalico.org/v3
kind: Node
metadata: {{name: h{n}}}
spec: {{bgp: {{ipv4Address: 172.31.{n}.2/24, ipv6Address: "fd31:{n}::2/64"}}}}
"""
            for family, address in (("v4", f"172.31.{n}.1"), ("v6", f"fd31:{n}::1")):
                text += f"""
---
apiVersion: projectcalico.org/v3
kind: BGPPeer
metadata: {{name: h{n}-{family}}}
spec: {{node: h{n}, peerIP: "{address}", asNumber: 64512{more}}}
"""
                if self.reflector == "margay":
                    peer = f"172.31.{n}.2" if family == "v4" else f"fd31:{n}::2"
                    text += f"""
---
apiVersion: projectcalico.org/v3
kind: BGPPeer
metadata: {{name: rr-h{n}-{family}}}
spec: {{node: rr, peerIP: "{peer}", asNumber: 64512, sourceAddress: None}}
"""
        if self.reflector == "margay":
            text += """
---
apiVersion: projectcalico.org/v3
kind: Node
metadata: {name: rr}
spec: {bgp: {ipv4Address: 172.31.1.1/24, ipv6Address: "fd31:1::1/64", routeReflectorClusterID: 224.0.0.1}}
"""
        return text

    def _apply(self, text):
        margay("apply", "-f", "-", "--datastore", self.datastore, input=text, check=True)

    def set_export(self, enabled):
        for name, cidr in (("four", "10.66.0.0/16"), ("six", "fd66::/24")):
            self._apply(f"""
apiVersion: projectcalico.org/v3
kind: IPPool
metadata: {{name: {name}}}
spec: {{cidr: "{cidr}", disableBGPExport: {'false' if enabled else 'true'}}}
""")

    # Processes

    def start(self, name, restarts=False):
        enter = ["ip", "netns", "exec", self.ns(name)]
        if name == "rr" and self.reflector == "bird":
            configuration = f"{self.directory}/bird.conf"
            with open(configuration, "w") as file:
                file.write(self._bird())
            words = enter + ["bird", "-f", "-c", configuration, "-s", f"{self.directory}/bird.ctl", "-P", f"{self.directory}/bird.pid"] + (["-R"] if restarts else [])
        else:
            words = enter + [MARGAY, "bgp", "--name", name, "--datastore", self.datastore, "--run-dir", f"{self.directory}/{name}"]
        log = open(f"{self.directory}/{name}.log", "ab")
        self.processes[name] = subprocess.Popen(words, stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True)

    def _bird(self):
        text = f"""
log "{self.directory}/bird.log" all;
router id 172.31.1.1;
protocol device {{ scan time 1; }}
protocol direct {{ ipv4; ipv6; }}
protocol kernel {{ persist; graceful restart on; ipv4 {{ import none; export where source = RTS_BGP; }}; }}
protocol kernel {{ persist; graceful restart on; ipv6 {{ import none; export where source = RTS_BGP; }}; }}
template bgp node {{
  local as 64512; rr client; rr cluster id 224.0.0.1; graceful restart on; graceful restart time 60;
  connect delay time 1; connect retry time 1; error wait time 1, 2;
}}
"""
        for n in (1, 2):
            text += f"""
protocol bgp h{n}v4 from node {{ local 172.31.{n}.1 as 64512; neighbor 172.31.{n}.2 as 64512; ipv4 {{ import all; export where source = RTS_BGP; }}; }}
protocol bgp h{n}v6 from node {{ local fd31:{n}::1 as 64512; neighbor fd31:{n}::2 as 64512; ipv6 {{ import all; export where source = RTS_BGP; }}; }}
"""
        return text

    def end(self, name, number=signal.SIGKILL):
        """`ip netns exec` has become the program itself, so this is its pid."""
        process = self.processes.pop(name)
        process.send_signal(number)
        process.wait(5)

    def status(self, name):
        return Lab.status(self, name, "bgp")

    def up(self, name):
        if name == "rr" and self.reflector == "bird":
            output = run("birdc", "-s", f"{self.directory}/bird.ctl", "show", "protocols")
            return output.count("Established") == 4
        status = self.status(name)
        sessions = 4 if name == "rr" else 2
        return bool(status) and not status["isDeferring"] and sum(s["state"] == "Established" for s in status["sessions"]) == sessions

    def learned(self, n):
        """Prefixes of protocol 81 on a host."""
        return sorted(
            line.split()[0] for family in ("-4", "-6") for line in self.ip(f"h{n}", family, "route", "show", "proto", "81").splitlines())

    def _settled(self, what, seconds=30):
        wait_until(lambda: f"{what}: all sessions are established and restarts over: { {name: self.up(name) for name in ('rr', 'h1', 'h2')} }",
                   seconds, lambda: all(self.up(name) for name in ("rr", "h1", "h2")), pause=0.03)
        wait_until(lambda: f"{what}: both hosts have learned the other's blocks: {self.learned(1)} {self.learned(2)}", 10,
                   lambda: all(set(BLOCKS[3 - n]) <= set(self.learned(n)) for n in (1, 2)), pause=0.03)

    settled = _settled

    # Traffic and what the kernels say

    def watch(self):
        for name in ("rr", "h1", "h2"):
            self.monitors[name] = Background("ip", "netns", "exec", self.ns(name), "ip", "monitor", "route")
            def heard():
                self.ip(name, "route", "add", "192.0.2.99/32", "dev", "lo", check=False)
                self.ip(name, "route", "del", "192.0.2.99/32", "dev", "lo", check=False)
                return "192.0.2.99" in self.monitors[name].text
            wait_until(f"the monitor of {name} listens", 5, heard, pause=0.05)

    def changes(self):
        """What the kernels' routes to workloads and blocks have gone through since `watch`."""
        found = []
        for name, monitor in self.monitors.items():
            if name == "rr" and self.reflector == "bird":
                continue  # After a restart BIRD writes its IPv6 routes once more, as they are.
            found += [f"{name}: {line}" for line in monitor.lines if "10.66." in line or "fd66:" in line]
        return found

    def traffic(self):
        self.echoes = [Echo(self.places[n].namespace, tcp=[80], udp=[5000]) for n in (1, 2)]
        flows = Flows(interval=0.002)
        for n in (1, 2):
            for family in (4, 6):
                flows.add("tcp", self.places[n], self.places[3 - n].address(family), 80)
                flows.add("udp", self.places[n], self.places[3 - n].address(family), 5000)
                flows.add("icmp", self.places[n], self.places[3 - n].address(family))
        flows.start()
        return flows

    def go_on(self, flows, count=50):
        answered = {flow.name: len(flow.answered) for flow in flows.flows}
        wait_until("every flow goes on", 5, lambda: all(len(flow.answered) > answered[flow.name] + count for flow in flows.flows))

    def close(self):
        for monitor in self.monitors.values():
            monitor.end()
        for echo in getattr(self, "echoes", []):
            echo.close()
        for name in list(self.processes):
            self.end(name)
        for name in self.namespaces:
            run("ip", "netns", "delete", self.ns(name))

    def __enter__(self):
        return self

    def __exit__(self, kind, *_):
        if kind is not None:
            run("sh", "-c", f"rm -rf /tmp/margay-fabric-last; cp -r {self.directory} /tmp/margay-fabric-last") if os.environ.get("MARGAY_E2E_KEEP") else None
        self.close()


def missing(flows):
    """Requests that were overtaken by later ones' answers: lost, whatever is still under way."""
    return [f"{flow.name}: {len(gone)}" for flow in flows.flows if flow.answered
            for gone in [set(range(max(flow.answered))) - flow.answered] if gone]


def expect_nothing_lost(flows, what):
    sent, lost = flows.finish()
    expect(not lost, f"none of {sent} requests lost ({what})", "; ".join(lost[:6]))
    return sent
