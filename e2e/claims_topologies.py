"""Every example topology: up, all sessions established, the matrix as the oracle expects, links cut and mended, and nothing left."""

import json
import os
import re
import signal
import time

from claims import expect, expect_equal, wait_until
from labs import HERE, MARGAY, PREFIX, WORK, Background, Lab, leftovers, margay, namespaces, run

EXAMPLES = os.path.join(os.path.dirname(HERE), "Examples")


def examples():
    """Every topology of Examples, so that one that is added is claimed, too."""
    names = []
    for name in sorted(os.listdir(EXAMPLES)):
        if name.endswith(".yaml"):
            with open(f"{EXAMPLES}/{name}") as file:
                if re.search(r"^kind: Topology$", file.read(), re.M):
                    names.append(name[:-5])
    return names


class Example:
    def __init__(self, name):
        self.example = name
        self.name = PREFIX + "t" + name.replace("-", "")[:9]
        self.directory = f"/run/margay-lab/{self.name}"

    def up(self):
        return margay("lab", "up", "-f", f"{EXAMPLES}/{self.example}.yaml", "--name", self.name, seconds=60)

    def command(self, verb, *words, check=True, seconds=30):
        return margay("lab", verb, "--name", self.name, *words, check=check, seconds=seconds)

    def status(self):
        return json.loads(self.command("status", "-o", "json"))

    def traffic(self, *words):
        output = margay("lab", "traffic", "--name", self.name, "-o", "json", *words, seconds=30)
        return output.code, json.loads(output)

    def all_well(self):
        status = self.status()
        for speaker in status["speakers"]:
            up = [s for s in speaker["sessions"] if s["state"].lower() == "established"]
            if len(up) != speaker["sessionsExpected"] or len(speaker["sessions"]) != len(up):
                return False
            if any(word != "well" for word in speaker["daemons"].values()):
                return False
        return status["datastore"]["problem"] is None and all(w["state"] == "up" for w in status["workloads"])

    def down(self):
        return margay("lab", "down", "--name", self.name, seconds=30)


def comes_up_and_goes(name):
    """One example, whole. Cells are counted here again, from the record, so that an empty matrix proves nothing."""
    lab = Example(name)
    try:
        output = lab.up()
        expect(output.code == 0, "`lab up` to succeed", output[-1500:])
        wait_until("everything is well", 10, lab.all_well)
        seen = [None]
        def right():
            code, seen[0] = lab.traffic()
            return code == 0
        wait_until(lambda: f"traffic is as expected; wrong: {[c for c in seen[0] if c['seen'] != c['expected']][:4]}", 8, right)
        cells = seen[0]
        with open(f"{lab.directory}/lab.json") as file:
            record = json.load(file)
        workloads, services = record["workloads"], record["topology"]["spec"]["services"]
        expect_equal(len(cells), len(workloads) * (len(workloads) - 1) * 2 * len(services), "cells: pairs, two families, services")
        expect(all(cell["decidedBy"] for cell in cells), "what decided in every cell", [c for c in cells if not c["decidedBy"]][:2])
        # Addresses that a topology gives are the workloads' own.
        for workload in record["topology"]["spec"]["workloads"]:
            if "addresses" in workload:
                expect_equal(sorted(workloads[workload["name"]]["addresses"]), sorted(workload["addresses"]), f"{workload['name']}'s addresses")
        special = SPECIAL.get(name)
        remark = special(lab, cells) if special else None
        return f"{len(cells)} cells" + (f"; {remark}" if remark else "")
    finally:
        lab.down()
        wait_until(lambda: f"nothing is left: {leftovers(lab.name)[:6]}", 3, lambda: not leftovers(lab.name))


def _crossing(lab, words, during, seconds=20):
    """Traffic of `lab traffic --watch` while `during` runs; its own count at the end."""
    watch = Background(MARGAY, "lab", "traffic", "--name", lab.name, "--watch", "--interval", "20", "-o", "json", *words)
    try:
        wait_until("streams run", 5, lambda: watch.lines and json.loads(watch.lines[0])["sent"] > 0)
        during()
    finally:
        watch.process.send_signal(signal.SIGTERM)
        watch.wait(seconds)
    return json.loads(watch.lines[-1])


def _reflectors(lab, _):
    def one_dies():
        lab.command("kill", "host1")
        status = wait_until("status tells of it", 5, lambda: (s := lab.status())["speakers"][0]["daemons"]["bgp"] != "well" and s)
        expect_equal(status["speakers"][0]["name"], "host1", "the first speaker")
    count = _crossing(lab, [], one_dies)
    expect(count["sent"] > 100 and count["lost"] == 0, "no request lost without one of two reflectors", count)
    lab.command("start", "host1", seconds=40)
    return f"one reflector killed: {count['sent']} requests, none lost"


def _two_spines(lab, _):
    def cut_and_mend():
        output = lab.command("cut", "rack1-spine1")
        expect("cut" in output, "`lab cut` to say the state", output)
        wait_until("the sessions over the cut link are down", 10, lambda: any(
            s["peer"] == "rack1" and s["state"] != "Established" for p in lab.status()["speakers"] if p["name"] == "spine1" for s in p["sessions"]))
        link = next(l for l in lab.status()["links"] if l["name"] == "rack1-spine1")
        expect_equal((link["state"], link["mtu"]), ("cut", 9000), "state and mtu of the link")
        carrier = run("ip", "netns", "exec", f"margay-{lab.name}-rack1", "cat", "/sys/class/net/spine1/carrier")
        expect_equal(carrier.strip(), "0", "the carrier at the other end of a cut link")
        lab.command("mend", "rack1-spine1")
        wait_until("everything is well again", 30, lab.all_well)
    count = _crossing(lab, [], cut_and_mend)
    expect(count["sent"] > 100 and count["lost"] == 0, "no request lost over the other spine", count)
    return f"one of two ways cut and mended: {count['sent']} requests, none lost"


def _two_racks(lab, cells):
    lab.command("cut", "rack1-spine")
    code, now = lab.traffic()
    sides = {"a1": 1, "a2": 1, "b1": 2, "b2": 2}
    for cell in now:
        expect_equal(cell["seen"], sides[cell["from"]] == sides[cell["to"]], f"{cell['from']} reaches {cell['to']} with the racks apart")
    expect_equal(code, 1, "exit code of `lab traffic` whose cells are not as expected")
    lab.command("mend", "spine-rack1")
    wait_until("everything is well again", 30, lab.all_well)
    wait_until("all traffic passes again", 10, lambda: lab.traffic()[0] == 0)
    lab.command("cut", "host1-rack1", "--silent")
    link = next(l for l in lab.status()["links"] if l["name"] == "host1-rack1")
    expect_equal(link["state"], "cut silently", "the link's state")
    carrier = run("ip", "netns", "exec", f"margay-{lab.name}-host1", "cat", "/sys/class/net/eth0/carrier")
    expect_equal(carrier.strip(), "1", "the carrier of a link that was cut silently")
    expect(not any(c["seen"] for c in lab.traffic()[1] if "a1" in (c["from"], c["to"])), "no packet to or from a1")
    lab.command("mend", "host1-rack1")
    wait_until("all traffic passes again", 10, lambda: lab.traffic()[0] == 0)
    return "racks apart, each in itself reachable; mended; cut silently"


def _margay_router(lab, _):
    learned = run("ip", "-n", f"margay-{lab.name}-rack1", "route", "show", "proto", "81", check=True)
    expect_equal(len(learned.strip().splitlines()), 3, "IPv4 blocks learned by margay bgp on rack1", )
    count = _crossing(lab, [], lambda: (lab.command("kill", "spine"), lab.command("start", "spine", seconds=40)))
    expect(count["sent"] > 100 and count["lost"] == 0, "no request lost while the spine's margay bgp was killed and started again", count)
    return f"the spine's margay bgp killed and started: {count['sent']} requests, none lost"


def _etcd(lab, cells):
    keys = lab.command("exec", "etcd", "--", "etcdctl", "get", "--prefix", "--keys-only", "/calico")
    for key in ("/calico/resources/v3/projectcalico.org/nodes/host1", "/calico/resources/v3/projectcalico.org/networkpolicies/shop/friends",
                "/calico/ipam/v2/host/host1/ipv4/block/10.65.7.0-26"):
        expect(key in keys.split("\n"), f"{key} in etcd", keys)
    nodes = lab.command("exec", "host2", "--", MARGAY, "get", "nodes", "-o", "name")
    expect("node/host1" in nodes, "`margay get nodes` on a host, by MARGAY_DATASTORE", nodes)
    denied = {(c["from"], c["to"]) for c in cells if not c["expected"]}
    expect_equal(denied, {("stranger", "server")}, "refused pairs, by the policy in the topology's own file")
    why = lab.command("traffic", "--why", "--from", "stranger", "--to", "server", "--service", "tcp/80")
    expect("tier default" in why and "end of tier, Deny" in why, "the whole reasoning for a single cell", why)
    lab.command("kill", "etcd")
    expect(lab.status()["datastore"]["problem"], "`lab status` to say that etcd is away")
    lab.command("start", "etcd")
    wait_until("everything is well again", 20, lab.all_well)
    return "etcdctl and margay get inside; etcd killed and started"


def _smallest(lab, _):
    """A workload moves: same addresses, same connections."""
    before = next(w for w in lab.status()["workloads"] if w["name"] == "pod1")
    lab.command("move", "pod1", "host3")
    after = next(w for w in lab.status()["workloads"] if w["name"] == "pod1")
    expect_equal((after["host"], after["addresses"]), ("host3", before["addresses"]), "pod1's host and addresses after the move")
    wait_until("all traffic passes", 10, lambda: lab.traffic()[0] == 0)
    return "a workload moved with its addresses"


SPECIAL = {
    "reflectors": _reflectors, "two-spines": _two_spines, "two-racks": _two_racks, "margay-router": _margay_router, "etcd": _etcd,
    "smallest": _smallest,
}


def mistakes_point_into_the_file():
    path = f"{WORK}/wrong.yaml"
    with open(path, "w") as file:
        file.write("apiVersion: lab.margay/v1\nkind: Topology\nspec:\n  racks: [rack1, rack2]\n  hosts:\n"
                   "    - {name: host1, rack: rak1}\n    - {name: host1, rack: rack2}\n  workloads: [{name: a, host: host7}]\n")
    for words in (("validate", "-f", path), ("up", "-f", path, "--dry-run"), ("up", "-f", path, "--name", PREFIX + "wrong")):
        output = margay("lab", *words)
        expect_equal(output.code, 1, f"exit code of `lab {' '.join(words)}`")
        for said in (f'{path}:6:27: spec.hosts[0].rack: "rak1" is no rack of this topology; did you mean rack1?',
                     f'{path}:7:14: spec.hosts[1].name: "host1" is the name of a host already',
                     f'{path}:8:31: spec.workloads[0].host: "host7" is no host of this topology; did you mean host1?', "3 errors"):
            expect(said in output, f"`{said}`", output)
    expect(not leftovers(PREFIX + "wrong"), "nothing made of a topology with mistakes", leftovers(PREFIX + "wrong"))


def dry_run_makes_nothing():
    name = PREFIX + "dry"
    output = margay("lab", "up", "-f", f"{EXAMPLES}/two-racks.yaml", "--name", name, "--dry-run", check=True)
    expect("as-per-rack" in output and "host4-rack2" in output, "what would be made", output)
    expect(not leftovers(name), "nothing made", leftovers(name))


def interrupted_up():
    """Ctrl-C while a topology with etcd comes up."""
    name = PREFIX + "int"
    up = Background(MARGAY, "lab", "up", "-f", f"{EXAMPLES}/etcd.yaml", "--name", name, group=True)
    try:
        up.wait_for("✓ datastore", 30)
        up.signal_group(signal.SIGINT)
        expect_equal(up.wait(15), 130, "exit code")
        wait_until(lambda: f"nothing is left: {leftovers(name)[:6]}", 3, lambda: not leftovers(name))
    finally:
        margay("lab", "down", "--name", name)
