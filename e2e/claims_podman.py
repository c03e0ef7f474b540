"""Containers of podman, started as if on one host of the lab: addresses, policy, and an end that leaves nothing."""

import contextlib
import json
import os
import sqlite3
import threading

import runtimes
from claims import Claim, expect, expect_equal, wait_until
from labs import WORK, margay, run
from traffic import Echo, tcp_reaches

IMAGE = "localhost/busybox"


class Containers:
    """podman on host1 with networks: `pods` and `named` (the plugin by its two names), `web` (labels for policies), `local`
    (addresses of host-local), `bridged` (the reference plugin bridge with our addresses)."""

    def __init__(self, lab):
        self.lab = lab
        directory = f"{WORK}/podman"
        os.makedirs(directory)
        plugins = runtimes.plugin_directory(f"{directory}/bin")
        ours = {"margay": {"socket": f"{lab.directory}/host1/cni.sock", "tombstones": f"{lab.directory}/host1/state/tombstones"}}
        pools = {"type": "calico-ipam", "assign_ipv4": "true", "assign_ipv6": "true"}
        labels = {"args": {"cni": {"labels": [{"key": "app", "value": "web"}]}}}
        shop = {"margay": {**ours["margay"], "namespace": "shop", "profiles": ["kns.shop"]}}
        local = {"type": "host-local", "ranges": [[{"subnet": "10.99.7.0/24"}]], "dataDir": f"{directory}/host-local"}
        self.podman = runtimes.Podman(f"{directory}/home", lab.namespace("host1"), plugins, {
            "pods": [{"type": "margay-cni", "ipam": pools, **ours}],
            "named": [{"type": "calico", "ipam": pools, **ours}],
            "web": [{"type": "calico", "ipam": pools, **shop, **labels}],
            "local": [{"type": "calico", "ipam": local, **ours}],
            "bridged": [{"type": "bridge", "bridge": "bridged0", "ipam": pools, **ours}],
        })
        self.podman("load", "-i", runtimes.busybox_image(f"{directory}/busybox.tar", f"{IMAGE}:latest"), check=True, seconds=120)

    def end(self):
        self.podman.end()

    def start(self, name, network):
        self.podman("run", "-d", "--network", network, "--name", name, IMAGE, "sleep", "86400", check=True, seconds=120)

    def addresses(self, name):
        """What the container itself says of its interface."""
        links = json.loads(run("ip", "-n", self.podman.sandbox(name), "-j", "address", "show", "dev", "eth0", check=True))
        return sorted(a["local"] for a in links[0]["addr_info"] if a["scope"] == "global")

    def answers(self, name, address, port=80):
        """Whether an echo server at the address answers the container on a TCP port."""
        output = self.podman("exec", name, "sh", "-c", f"echo margay | nc -w 2 {address} {port}", seconds=30)
        return "margay" in output


def _endpoints(lab):
    text = margay("get", "workloadendpoints", "-A", "-o", "json", "--datastore", lab.datastore, check=True)
    document = json.loads(text)
    return {item["metadata"]["name"]: item["spec"] for item in document.get("items", document if isinstance(document, list) else [document])}


def _held(lab, network, container):
    """The blocks in which the container's handle counts addresses, as the datastore has them."""
    with contextlib.closing(sqlite3.connect(f"file:{lab.directory}/datastore.sqlite?mode=ro", uri=True)) as database:
        row = database.execute("SELECT value FROM item WHERE key = ?", (f"/calico/ipam/v2/handle/{network}.{container}",)).fetchone()
    return json.loads(row[0])["block"] if row else {}


def _of(lab, address):
    found = [spec for spec in _endpoints(lab).values() if f"{address}/{128 if ':' in address else 32}" in spec["ipNetworks"]]
    return found[0] if found else None


def attached(containers, network):
    """An address of the pools, a record, a route on every host, and the same policy as for anybody."""
    lab, name = containers.lab, f"one-{network}"
    loads = lab.workloads()
    containers.start(name, network)
    addresses = containers.addresses(name)
    expect_equal(len(addresses), 2, f"addresses of {name}: {addresses}")
    expect(all(a.startswith(("10.65.", "fd65:")) for a in addresses), "addresses of the pools", addresses)
    spec = _of(lab, addresses[0])
    expect(spec is not None and spec["node"] == "host1", "an endpoint record with the address", spec)
    web = loads["web-2"]
    with Echo(loads["client-1"].namespace, tcp=[80]), Echo(web.namespace, tcp=[80, 9999]):
        for family in (4, 6):
            expect(containers.answers(name, loads["client-1"].address(family)), f"client-1 on host2 to answer (IPv{family})", "nothing")
            expect(containers.answers(name, web.address(family)), f"web-2 on host2 to answer on port 80 (IPv{family})", "nothing")
            expect(not containers.answers(name, web.address(family), 9999), f"web-2 silent on a port without a rule (IPv{family})", "an answer")
    return f"{name}: {' '.join(addresses)}"


def several_at_once(containers):
    """Four that start together have eight addresses."""
    names = [f"many-{number}" for number in range(4)]
    failures = []

    def start(name):
        try:
            containers.start(name, "pods")
        except Claim as problem:
            failures.append(str(problem))

    threads = [threading.Thread(target=start, args=(name,)) for name in names]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    expect_equal(failures, [], "failures")
    given = [address for name in names for address in containers.addresses(name)]
    expect_equal(len(set(given)), 8, f"different addresses: {given}")
    client = containers.lab.workloads()["client-1"]
    with Echo(client.namespace, tcp=[80]):
        expect_equal([containers.answers(name, client.v4) for name in names], [True] * 4, "who is answered")
    return " ".join(given)


def stopped_and_started(containers):
    """Stop gives everything back; start attaches anew."""
    name, lab = "again", containers.lab
    containers.start(name, "pods")
    before, container = containers.addresses(name), containers.podman.inspect(name)["Id"]
    expect(_held(lab, "pods", container), "Calico's handle for it", "none")
    containers.podman("stop", "-t", "0", name, check=True)
    wait_until("the record is gone", 5, lambda: _of(lab, before[0]) is None)
    expect(not _held(lab, "pods", container), "no address held while it is stopped", _held(lab, "pods", container))
    containers.podman("start", name, check=True)
    after = containers.addresses(name)
    expect(_of(lab, after[0]) is not None, "a record again", after)
    return f"{before} then {after}"


def labelled(containers):
    """Labels of the network: what policy gives to `app == "web"`, in both directions and between hosts, and nothing else."""
    lab = containers.lab
    loads = lab.workloads()
    containers.start("labelled", "web")
    addresses, sandbox = containers.addresses("labelled"), containers.podman.sandbox("labelled")
    database, client = loads["db-1"], loads["client-1"]
    with Echo(database.namespace, tcp=[5432, 5433]), Echo(sandbox, tcp=[80, 9999]):
        for family, own in ((4, addresses[0]), (6, addresses[1])):
            expect(containers.answers("labelled", database.address(family), 5432), f"db-1 on host3 to answer on 5432 (IPv{family})", "nothing")
            expect(not containers.answers("labelled", database.address(family), 5433), f"no answer on 5433 (IPv{family})", "one")
            expect(not containers.answers("one-pods", database.address(family), 5432), f"no answer without the label (IPv{family})", "one")
            expect(tcp_reaches(client.namespace, own, 80), f"client-1 on host2 to reach port 80 of the container (IPv{family})")
            expect(not tcp_reaches(client.namespace, own, 9999), f"port 9999 out of reach (IPv{family})")


def while_no_node_serves(containers):
    """`podman rm` succeeds, is kept on disk, told in the status with its age, and finished when the node is back."""
    lab = containers.lab
    containers.start("orphan", "named")
    addresses, container = containers.addresses("orphan"), containers.podman.inspect("orphan")["Id"]
    margay("lab", "kill", "--name", lab.name, "host1", check=True)
    left = f"{lab.directory}/host1/state/tombstones"
    try:
        containers.podman("rm", "-f", "-t", "0", "orphan", check=True)
        expect_equal([name for name in os.listdir(left) if name.endswith(".del.json")], [f"{container}+eth0.del.json"], "what lies on disk")
        refused = containers.podman("run", "-d", "--network", "named", "--name", "early", IMAGE, "sleep", "9", seconds=120)
        expect(refused.code != 0 and "margay node" in refused, "a start without a node to be refused with words", refused[-600:])
        containers.podman("rm", "-f", "-t", "0", "early", seconds=60)
    finally:
        margay("lab", "start", "--name", lab.name, "host1", check=True, seconds=60)
    wait_until("the record is gone", 10, lambda: _of(lab, addresses[0]) is None)
    wait_until("no address is held", 5, lambda: not _held(lab, "named", container))
    told = lab.status("host1", "felix")["cni"]["tombstones"]
    expect_equal((told["waiting"], told["damaged"]), (0, []), "what the status tells of DELs on disk")


def bridged(containers):
    """The reference plugin bridge asks calico-ipam: two containers on one bridge, addresses held under Calico's handle and given back."""
    ids = {}
    for name in ("bridged-1", "bridged-2"):
        containers.start(name, "bridged")
        ids[name] = containers.podman.inspect(name)["Id"]
        expect(_held(containers.lab, "bridged", ids[name]), "addresses held", "none")
    target = containers.addresses("bridged-2")[0]
    with Echo(containers.podman.sandbox("bridged-2"), tcp=[80]):
        expect(containers.answers("bridged-1", target), "the other container to answer over the bridge", "nothing")
    containers.podman("rm", "-f", "-t", "0", *ids, check=True)
    expect_equal([name for name in ids if _held(containers.lab, "bridged", ids[name])], [], "who still holds addresses")
    containers.lab.exec("host1", "ip", "link", "delete", "bridged0")
    return target


def delegated(containers):
    """host-local gives the address; record, routes and policy are as ever, on the host itself."""
    containers.start("local-1", "local")
    addresses = containers.addresses("local-1")
    expect(len(addresses) == 1 and addresses[0].startswith("10.99.7."), "an address of host-local", addresses)
    expect(_of(containers.lab, addresses[0]) is not None, "an endpoint record with it", addresses)
    client = containers.lab.workloads()["client-2"]
    with Echo(client.namespace, tcp=[80]):
        expect(containers.answers("local-1", client.v4), "client-2, on the same host, to answer", "nothing")
    # In no pool: reached from its host alone, unless an IPPool covers it.
    expect(not any("10.99.7." in line for line in containers.lab.routes("host2")), "no route to it on host2", containers.lab.routes("host2"))
    containers.podman("rm", "-f", "-t", "0", "local-1", check=True)
    left = [name for name in os.listdir(f"{WORK}/podman/host-local/local") if name[0].isdigit()]
    expect_equal(left, [], "what host-local still holds")
    return addresses[0]


def nothing_left(containers):
    """`podman rm -f` of all of them: no record, no address, no interface."""
    lab = containers.lab
    containers.podman("rm", "-f", "-t", "0", "-a", check=True, seconds=120)
    pods = set(lab.workloads())
    wait_until("no record is left of them", 5, lambda: all(spec.get("pod") in pods for spec in _endpoints(lab).values()))
    expected = sum(1 for load in lab.workloads().values() if load.host == "host1")
    links = [link["ifname"] for link in lab.json("host1", "ip", "-j", "link") if link["ifname"].startswith("cali")]
    expect_equal(len(links), expected, f"workloads' interfaces on host1: {links}")
    return f"{expected} interfaces, those of the lab's own workloads"
