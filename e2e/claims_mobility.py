"""Workloads move from host to host with their addresses, and a host is lost: what happens to traffic, counted."""

import json
import os
import socket
import threading
import time

import labs
from claims import Claim, expect, expect_equal, wait_until
from labs import BUILD, CNI, HOSTS, Lab, Workload, attach_by_hand, inside, margay, run
from traffic import Echo, Flows

CONTAINER = [0]


def cni(lab, host, pod, pod_namespace, labels, command, container, addresses=()):
    """margay-cni for a pod in its own namespace, which stays the same wherever the pod is attached."""
    configuration = {
        "cniVersion": "1.0.0", "name": "k8s-pod-network", "type": "margay-cni",
        "ipam": {"type": "calico-ipam", "assign_ipv4": "true", "assign_ipv6": "true"},
        "margay": {"socket": f"{lab.directory}/{host}/cni.sock", "tombstones": f"{lab.directory}/{host}/state/tombstones"},
        "args": {"cni": {"labels": [{"key": key, "value": value} for key, value in labels.items()], "ips": list(addresses)}},
    }
    output = run(
        "ip", "netns", "exec", lab.namespace(host), CNI, input=json.dumps(configuration), seconds=30,
        environment={
            "CNI_COMMAND": command, "CNI_CONTAINERID": container, "CNI_NETNS": f"/run/netns/{lab.namespace(pod)}", "CNI_IFNAME": "eth0",
            "CNI_PATH": BUILD,
            "CNI_ARGS": f"IgnoreUnknown=1;K8S_POD_NAMESPACE={pod_namespace};K8S_POD_NAME={pod};K8S_POD_INFRA_CONTAINER_ID={container}",
        })
    if output.code != 0:
        raise Claim(f"margay-cni {command} of {pod} on {host}: exit code {output.code}: {output}")
    return [ip["address"].split("/")[0] for ip in json.loads(output)["ips"]] if command == "ADD" else output


class Mover:
    """A pod that moves, with its network namespace and so with its sockets."""

    def __init__(self, lab, name, host, pod_namespace="shop", labels=None):
        self.lab, self.name, self.host, self.pod_namespace, self.labels = lab, name, host, pod_namespace, labels or {"app": "web"}
        self.namespace = lab.namespace(name)
        run("ip", "netns", "add", self.namespace, check=True)
        self.container = self._container()
        self.addresses = self._cni("ADD", host, self.container)
        self.workload = Workload(name, host, self.namespace, self.container, self.addresses)

    def _container(self):
        CONTAINER[0] += 1
        return f"{self.name}{CONTAINER[0]:04d}".encode().hex().ljust(64, "0")[:64]

    def _cni(self, command, host, container, addresses=()):
        return cni(self.lab, host, self.name, self.pod_namespace, self.labels, command, container, addresses)

    def address(self, family):
        return self.workload.address(family)

    def move_cold(self, host):
        """DEL, then ADD. Returns how long it took."""
        started = time.monotonic()
        self._cni("DEL", self.host, self.container)
        self._arrive(host)
        return time.monotonic() - started

    def _arrive(self, host):
        self.container = self._container()
        expect_equal(sorted(self._cni("ADD", host, self.container, self.addresses)), sorted(self.addresses), "the addresses on the new host")
        self.host = self.workload.host = host

    def move_overlapping(self, host):
        """ADD on the new host while the attachment on the old one stands. Returns the late DEL."""
        old_host, old = self.host, self.container
        run("ip", "-n", self.namespace, "link", "set", "eth0", "down", check=True)
        run("ip", "-n", self.namespace, "link", "set", "eth0", "name", f"was{CONTAINER[0]}", check=True)
        self._arrive(host)
        return lambda: self._cni("DEL", old_host, old)

    def end(self):
        try:
            self._cni("DEL", self.host, self.container)
        finally:
            run("ip", "netns", "delete", self.namespace)


def holders(lab, address):
    """Who holds the address, as the block says: (owner's node, alternate's node)."""
    for family in ("ipv4", "ipv6"):
        for value in stored(lab, f"/calico/ipam/v2/assignment/{family}/block/").values():
            block = json.loads(value)
            import ipaddress
            network = ipaddress.ip_network(block["cidr"])
            if ipaddress.ip_address(address) in network:
                index = block["allocations"][int(ipaddress.ip_address(address)) - int(network.network_address)]
                if index is None:
                    return None
                attribute = block["attributes"][index]
                return attribute["secondary"].get("node"), (attribute.get("alternateOwnerAttrs") or {}).get("node")
    return None


def stored(lab, prefix):
    """Keys and values of the datastore that begin so, read past Margay."""
    import sqlite3
    with sqlite3.connect(f"file:{lab.directory}/datastore.sqlite?mode=ro", uri=True, timeout=5) as connection:
        return {key: value for key, value in connection.execute(KEYS, (prefix + "*",))}


KEYS = "SELECT key, value FROM item WHERE key GLOB ?"


def followed(lab, mover):
    """Every host but the pod's own has its addresses by way of that host; the pod's own by its interface."""
    def lines(host):
        return {family: lab.exec(host, "ip", f"-{family}", "route", "show", "exact" if family == 4 else "table", *(
            [f"{mover.address(family)}/32"] if family == 4 else ["main", f"{mover.address(family)}/128"])).strip() for family in (4, 6)}
    def missing():
        found = []
        for host in HOSTS:
            for family, text in lines(host).items():
                protocol = "proto 80" if host == mover.host else "proto 81"
                if home(lab, mover) == mover.host and host != mover.host:
                    if text:
                        found.append(f"{host}: {text} should be gone, the block is enough")
                elif protocol not in text:
                    found.append(f"{host}: {text or 'no route'} to {mover.address(family)}, not {protocol}")
        return found
    wait_until(lambda: f"all hosts have followed: {missing()}", 5, lambda: not missing(), pause=0.02)


def home(lab, mover):
    """The host whose block the IPv4 address is of."""
    import ipaddress
    for value in stored(lab, "/calico/ipam/v2/assignment/ipv4/block/").values():
        block = json.loads(value)
        if ipaddress.ip_address(mover.address(4)) in ipaddress.ip_network(block["cidr"]):
            return block["affinity"].removeprefix("host:")
    raise Claim(f"no block holds {mover.address(4)}")


class Forbidden:
    """From two hosts, every millisecond, to a port that the mover's server listens on and its policy denies."""

    def __init__(self, lab, mover, echo):
        self.echo, self.mark, self.sent = echo, b"forbidden", 0
        self.sockets = []
        for name in ("client-1", "client-2"):
            with inside(lab.workloads()[name].namespace):
                for family in (4, 6):
                    one = socket.socket(socket.AF_INET if family == 4 else socket.AF_INET6, socket.SOCK_DGRAM)
                    one.setblocking(False)
                    self.sockets.append((one, mover.address(family)))
        self.stop = threading.Event()
        self.thread = threading.Thread(target=self._run, daemon=True)
        self.thread.start()

    def _run(self):
        while not self.stop.wait(0.001):
            for one, address in self.sockets:
                try:
                    one.sendto(self.mark, (address, 6001))
                    self.sent += 1
                except OSError:
                    pass  # an ICMP error came back

    def end(self):
        self.stop.set()
        self.thread.join(2)
        for one, _ in self.sockets:
            one.close()
        arrived = self.echo.received.count(self.mark)
        expect(self.sent > 100, "forbidden datagrams to have been sent", self.sent)
        expect(arrived == 0, f"none of {self.sent} forbidden datagrams at the pod at any instant", f"{arrived} arrived")


def _gap(flow, since):
    """The longest silence after `since` that ended."""
    times = [since] + sorted(at for at in flow.times if at >= since)
    return max((b - a for a, b in zip(times, times[1:])), default=0)


class TimedFlows(Flows):
    """Notes when answers came, and what was lost."""

    def add(self, *words, **options):
        super().add(*words, **options)
        self.flows[-1].times = []

    def _send(self, flow):
        before = flow.problem
        super()._send(flow)
        if flow.kind == "tcp" and flow.problem and "temporarily" in flow.problem:
            flow.problem = before  # the kernel's buffer is full while nothing is acknowledged: not sent, and not counted

    def _take(self, flow):
        before = len(flow.answered)
        super()._take(flow)
        if len(flow.answered) > before:
            flow.times.append(time.monotonic())


def _flows(lab, mover):
    """Third parties on every host ask the pod, and the pod asks one of them: TCP, UDP and ping where policy allows."""
    loads = lab.workloads()
    flows = TimedFlows(interval=0.001)
    for family in (4, 6):
        for name in ("client-1", "client-2", "web-1", "web-2"):
            flows.add("tcp", loads[name], mover.address(family), 80)
            flows.add("udp", loads[name], mover.address(family), 5000)
        flows.add("tcp", mover.workload, loads["db-1"].address(family), 5432)
    return flows


def _move(lab, mover, flows, action, say):
    """One move under traffic; the flows must go on, and the gap is told."""
    since = time.monotonic()
    action()
    reached = {flow.name: len(flow.answered) for flow in flows.flows}
    wait_until(lambda: "every connection goes on; silent: " + ", ".join(f.name for f in flows.flows if len(f.answered) <= reached[f.name] + 100), 10,
               lambda: all(len(flow.answered) > reached[flow.name] + 100 for flow in flows.flows))
    followed(lab, mover)
    gaps = {kind: max(_gap(flow, since) for flow in flows.flows if flow.kind == kind) * 1000 for kind in ("udp", "tcp")}
    say.append(f"{gaps['udp']:.0f} (TCP {gaps['tcp']:.0f})")


def moves(lab, how):
    """From host to host to host and home again: connections of third parties are the same before and after, nothing forbidden passes."""
    loads = lab.workloads()
    mover = Mover(lab, "mover", "host3")
    clean = None
    # How long the new host's routes stay preferred once the old one has let go: half a minute, unless somebody is in a hurry.
    lab.apply("apiVersion: projectcalico.org/v3\nkind: FelixConfiguration\nmetadata: {name: default}\nspec: {liveMigrationRouteConvergenceTime: 1s}\n")
    try:
        with Echo(mover.namespace, tcp=[80], udp=[5000, 6001]) as echo, Echo(loads["db-1"].namespace, tcp=[5432]):
            start = home(lab, mover)
            expect_equal(start, "host3", "the host whose block the address is of")
            flows = _flows(lab, mover)
            flows.start()
            forbidden = Forbidden(lab, mover, echo)
            say = []
            for host in ("host1", "host2", "host3"):
                old = mover.host
                if how == "cold":
                    _move(lab, mover, flows, lambda: mover.move_cold(host), say)
                else:
                    late = []
                    # While both attachments stand, the new one has the traffic, everywhere but on the old host.
                    def action():
                        late.append(mover.move_overlapping(host))
                        for address in mover.addresses:
                            expect_equal(holders(lab, address), (old, host), f"holders of {address} while both attachments stand")
                        late[0]()
                    _move(lab, mover, flows, action, say)
                for address in mover.addresses:
                    expect_equal(holders(lab, address), (host, None), f"holder of {address}")
            forbidden.end()
            flows.finish()
            connections = [flow for flow in flows.flows if flow.kind == "tcp"]
            problems = [f"{flow.name}: {flow.lost} of {flow.sent} lost {flow.problem or ''}" for flow in connections if flow.lost or flow.problem]
            expect(not problems, "no connection broken and no request in one lost", problems)
            datagrams = [flow for flow in flows.flows if flow.kind == "udp"]
        clean = mover.addresses
        mover.end()
        mover = None
        for address in clean:
            wait_until(f"{address} is free", 3, lambda: holders(lab, address) is None)
        _nothing_left(lab, clean)
        return f"{sum(f.sent for f in connections)} requests in {len(connections)} connections, none lost; of {sum(f.sent for f in datagrams)} " \
            f"datagrams {sum(f.lost for f in datagrams)}; {forbidden.sent} forbidden ones kept out; longest gaps {', '.join(say)} ms"
    finally:
        margay("delete", "felixconfiguration", "default", "--datastore", lab.datastore)
        if mover:
            mover.end()


def _nothing_left(lab, addresses):
    def left():
        found = []
        for host in HOSTS:
            rules = lab.ruleset(host)
            found += [f"{host}: rules" for address in addresses if f" {address} " in rules or f" {address}," in rules]
            found += [f"{host}: route {line}" for line in lab.routes(host) if any(line.split()[0] in (address, f"{address}/32", f"{address}/128") for address in addresses)]
            for address in addresses:
                family = "ipv6" if ":" in address else "ipv4"
                if f"={address} " in run("ip", "netns", "exec", lab.namespace(host), "conntrack", "-L", "-f", family):
                    found.append(f"{host}: a flow of {address}")
        return found
    wait_until(lambda: f"nothing of {addresses} is left: {left()[:6]}", 5, lambda: not left(), pause=0.1)


def late_del(lab):
    """The old host's DEL comes long after, twice; and a move that is called off leaves the pod where it was."""
    loads = lab.workloads()
    mover = Mover(lab, "mover", "host2")
    try:
        with Echo(mover.namespace, tcp=[80]):
            late = mover.move_overlapping("host1")
            def asks():
                with inside(loads["client-2"].namespace):
                    client = socket.socket(socket.AF_INET6, socket.SOCK_STREAM)
                with client:
                    client.settimeout(2)
                    client.connect((mover.address(6), 80))
                    client.send(b"?")
                    return client.recv(1) == b"?"
            wait_until("a new connection is answered while both attachments stand", 5, lambda: _quietly(asks))
            late()
            followed(lab, mover)
            late()
            expect(asks(), "the pod to answer after a DEL that came twice")
            for address in mover.addresses:
                expect_equal(holders(lab, address), ("host1", None), f"holder of {address}")
            # Called off: the new attachment goes again.
            container = mover._container()
            other = lab.namespace("elsewhere")
            run("ip", "netns", "add", other, check=True)
            try:
                elsewhere = Mover.__new__(Mover)
                elsewhere.__dict__.update(mover.__dict__, namespace=other)
                configuration = dict(lab=lab, host="host3", pod="mover", pod_namespace="shop", labels=mover.labels, container=container, addresses=mover.addresses)
                _in_namespace(other, "ADD", **configuration)
                for address in mover.addresses:
                    expect_equal(holders(lab, address), ("host1", "host3"), f"holders of {address}")
                _in_namespace(other, "DEL", **configuration)
            finally:
                run("ip", "netns", "delete", other)
            for address in mover.addresses:
                expect_equal(holders(lab, address), ("host1", None), f"holder of {address} after a move that was called off")
            followed(lab, mover)
            wait_until("the pod answers where it was", 5, lambda: _quietly(asks))
    finally:
        mover.end()


def _in_namespace(namespace, command, lab, host, pod, pod_namespace, labels, container, addresses):
    original = lab.namespace
    try:
        lab.namespace = lambda place: namespace if place == pod else original(place)
        return cni(lab, host, pod, pod_namespace, labels, command, container, addresses)
    finally:
        del lab.namespace


def _quietly(body):
    try:
        return body()
    except OSError:
        return False


def lost_host():
    """The power of a host fails: nothing is said to anybody. An operator deletes the node; the others forget it at once.

    In a lab of its own, which it leaves with a hole.
    """
    lab = Lab("m", "mesh")
    output = lab.up()
    expect_equal(output.code, 0, "the exit code of `lab up`")
    try:
        loads = lab.workloads()
        victims = [load for load in loads.values() if load.host == "host3"]
        with Echo(loads["web-1"].namespace, tcp=[80], udp=[5000]), Echo(loads["client-1"].namespace, tcp=[80], udp=[5000]):
            remaining = [name for name in loads if loads[name].host != "host3"]
            flows = Flows(interval=0.002)
            for family in (4, 6):
                for name in remaining:
                    for target in ("web-1", "client-1"):
                        if name != target:
                            flows.add("tcp", loads[name], loads[target].address(family), 80)
                            flows.add("udp", loads[name], loads[target].address(family), 5000)
            flows.start()
            # First the link, then the processes: no FIN, no NOTIFICATION gets out.
            rack = next(link["ifname"] for link in lab.json("rack", "ip", "-j", "link") if "host3" in link["ifname"])
            for words in (("add", "table", "inet", "lost"), ("add", "chain", "inet", "lost", "in", "{ type filter hook prerouting priority -400 ; }"),
                          ("add", "chain", "inet", "lost", "out", "{ type filter hook postrouting priority 400 ; }"),
                          ("add", "rule", "inet", "lost", "in", "iifname", rack, "drop"), ("add", "rule", "inet", "lost", "out", "oifname", rack, "drop")):
                lab.exec("rack", "nft", " ".join(words), check=True)
            margay("lab", "kill", "--name", lab.name, "host3", check=True)
            def routes_to(victim):
                return [host for host in ("host1", "host2") if "proto 81" in lab.exec(host, "ip", "route", "get", "fibmatch", victim.v4)
                        or "proto 81" in lab.exec(host, "ip", "-6", "route", "get", "fibmatch", victim.v6)]
            expect_equal(routes_to(victims[0]), ["host1", "host2"], "hosts that still have routes to the lost one: nobody told them")
            peers = json.loads(margay("get", "bgppeers", "-o", "json", "--datastore", lab.datastore, check=True))["items"]
            peers = [peer for peer in peers if peer["spec"].get("node") == "host3"]
            started = time.monotonic()
            output = margay("delete", "node", "host3", "--datastore", lab.datastore)
            if output.code != 0:
                # Its felix was alive a moment ago, and its word is good for its lease.
                expect("--force" in output, "to be told of --force", output)
                output = margay("delete", "node", "host3", "--force", "--datastore", lab.datastore, check=True)
            for victim in victims:
                expect(victim.v4 in output and victim.v6 in output, f"the output to name {victim.name}'s addresses", output)
            wait_until("no route to the lost host's workloads is left", 5, lambda: not any(routes_to(victim) for victim in victims))
            took = time.monotonic() - started
            keys = [key for key in stored(lab, "/calico/") if "host3" in key and "/status" not in key and "last_reported" not in key and "/felix/" not in key]
            expect_equal(keys, [], "keys of the datastore that speak of host3")
            # Its workloads start elsewhere, with the addresses that they had.
            for victim in victims:
                run("ip", "netns", "delete", victim.namespace)
            reborn = Mover(lab, victims[0].name, "host1", labels={"app": "client"}, pod_namespace="office")
            reborn._cni("DEL", "host1", reborn.container)
            reborn.container = reborn._container()
            given = reborn._cni("ADD", "host1", reborn.container, [victims[0].v4, victims[0].v6])
            expect_equal(sorted(given), sorted([victims[0].v4, victims[0].v6]), "addresses given anew")
            # And the host comes back: as new, beside what has its addresses now.
            lab.exec("rack", "nft", "delete table inet lost", check=True)
            # Its peers went with it; the administrator who wrote them writes them again.
            for peer in peers:
                for word in ("resourceVersion", "uid", "creationTimestamp"):
                    peer["metadata"].pop(word, None)
            lab.apply("\n---\n".join(json.dumps(peer) for peer in peers))
            margay("lab", "start", "--name", lab.name, "host3", check=True, seconds=90)
            wait_until("host3 is a node again, with sessions", 60, lambda: lab.bgp_established("host3") and lab.bgp_established("host1"))
            wait_until(lambda: f"host3 keeps nothing of the past: {lab.status('host3', 'felix')['endpoints']}", 10,
                       lambda: (lab.status("host3", "felix") or {"endpoints": [0]})["endpoints"] == [])
            wait_until(lambda: "host3 routes to the address that was its own where it is now: " + lab.exec("host3", "ip", "route", "get", victims[0].v4), 20,
                       lambda: "proto 81" in lab.exec("host3", "ip", "route", "get", "fibmatch", victims[0].v4))
            sent, lost = flows.finish()
            expect(not lost, f"none of {sent} requests between the others lost", "; ".join(lost[:6]))
            return f"{sent} requests between the others, none lost; routes gone {took:.1f} s after the operator's command began"
    finally:
        lab.down()
