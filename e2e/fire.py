"""IPAM under fire: many processes assign and release on one datastore and die at random, and an observer that shares no code with them
looks at their log and at what is stored. By itself: `e2e/fire.py sqlite|etcd PROCESSES ROUNDS [SEED]` with MARGAY_BUILD set."""

import base64
import collections
import ipaddress
import json
import os
import random
import shutil
import signal
import socket
import sqlite3
import subprocess
import sys
import tempfile
import time

BUILD = os.environ.get("MARGAY_BUILD") or os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", ".build", "release")
PROBE = os.path.join(BUILD, "address-probe")
STEPS = [
    "assign-own", "finish-affinity", "claim", "reclaim", "borrow", "assign-exact", "release", "drop-affinity", "give-up", "heal-handle", "endpoint",
    "detach",
]
IPAM = "/calico/ipam/v2/"
ENDPOINTS = "/calico/resources/v3/projectcalico.org/workloadendpoints/"


class Trouble(Exception):
    pass


def need(condition, text):
    if not condition:
        raise Trouble(text)


class SQLite:
    def __init__(self, folder):
        self.path = f"{folder}/store.db"
        self.name = f"sqlite:{self.path}"

    def values(self, prefix):
        with sqlite3.connect(f"file:{self.path}?mode=ro", uri=True) as store:
            rows = store.execute("SELECT key, value FROM item WHERE key >= ? AND key < ?", (prefix, prefix + "\x7f")).fetchall()
        return {str(key): bytes(value) for key, value in rows}

    def end(self):
        pass


class Etcd:
    def __init__(self, folder):
        ports = []
        sockets = [socket.socket() for _ in range(2)]
        for each in sockets:
            each.bind(("127.0.0.1", 0))
            ports.append(each.getsockname()[1])
        for each in sockets:
            each.close()
        self.endpoint = f"127.0.0.1:{ports[0]}"
        self.name = f"etcd://{self.endpoint}"
        urls = [f"http://127.0.0.1:{port}" for port in ports]
        self.server = subprocess.Popen(
            ["etcd", "--data-dir", f"{folder}/etcd", "--listen-client-urls", urls[0], "--advertise-client-urls", urls[0], "--listen-peer-urls",
             urls[1], "--initial-advertise-peer-urls", urls[1], "--initial-cluster", f"default={urls[1]}", "--log-level", "error"],
            stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        deadline = time.monotonic() + 30
        while self.control("endpoint", "health").returncode != 0:
            need(time.monotonic() < deadline, "etcd does not come up")
            time.sleep(0.05)

    def control(self, *words):
        return subprocess.run(
            ["etcdctl", "--endpoints", self.endpoint, *words], capture_output=True, env={**os.environ, "ETCDCTL_API": "3"})

    def values(self, prefix):
        items = json.loads(self.control("get", "--prefix", prefix, "-w", "json").stdout).get("kvs", [])
        return {base64.b64decode(item["key"]).decode(): base64.b64decode(item.get("value", "")) for item in items}

    def end(self):
        self.server.kill()
        self.server.wait()


class Fire:
    """`deaths`: one step in so many kills its process; besides, one is killed from outside every `pause` seconds."""

    def __init__(self, backend, processes, rounds, seed=1, deaths=25, pause=0.3, grace=60):
        self.folder = tempfile.mkdtemp(prefix="margay-fire-", dir="/dev/shm" if os.path.isdir("/dev/shm") else None)
        self.log = f"{self.folder}/log"
        self.store = {"sqlite": SQLite, "etcd": Etcd}[backend](self.folder)
        self.processes, self.rounds, self.deaths, self.pause, self.grace = processes, rounds, deaths, pause, grace
        self.random = random.Random(seed)
        self.lives = self.kills = 0
        self.problems = []

    def probe(self, *words, **options):
        return subprocess.Popen([PROBE, words[0], self.store.name, *map(str, words[1:])], stdout=subprocess.DEVNULL, **options)

    def start(self, number):
        self.lives += 1
        errors = open(f"{self.folder}/errors", "ab")
        if number < 0:
            return self.probe(
                "repair", self.grace, self.random.getrandbits(60), self.log, self.deaths * 4, stdin=subprocess.PIPE, stderr=errors)
        return self.probe(
            "run", f"node{number}", self.rounds, self.random.getrandbits(60), self.log, self.deaths, stdin=subprocess.DEVNULL, stderr=errors)

    def burn(self, seconds):
        """All rounds of all processes, and two repairers beside them."""
        need(self.probe("prepare", self.processes).wait() == 0, "the store could be prepared")
        deadline = time.monotonic() + seconds
        running = {number: self.start(number) for number in [*range(self.processes), -1, -2]}
        next_kill = time.monotonic() + self.pause
        try:
            while any(number >= 0 for number in running):
                need(time.monotonic() < deadline, f"all rounds done within {seconds} s; left: {sorted(running)}")
                for number, process in list(running.items()):
                    code = process.poll()
                    if code is None:
                        continue
                    del running[number]
                    if code == 0:
                        continue
                    if code != -signal.SIGKILL:
                        self.problems.append(f"{number} ended with {code}")
                        need(len(self.problems) < 20, f"processes that die by SIGKILL only: {self.errors()}")
                    running[number] = self.start(number)
                if self.deaths and time.monotonic() > next_kill:
                    next_kill = time.monotonic() + self.pause
                    # Repairers die at their own steps only: one that is killed at random never gets old enough to repair.
                    nodes = [process for number, process in running.items() if number >= 0]
                    if nodes:
                        self.random.choice(nodes).kill()
                        self.kills += 1
                time.sleep(0.005)
        finally:
            for process in running.values():
                process.kill()
                process.wait()

    def errors(self):
        with open(f"{self.folder}/errors", errors="replace") as file:
            return file.read()[-1500:]

    def settle(self):
        """Repair, as if the grace period were over; it dies and begins anew as well."""
        for _ in range(200):
            process = self.probe("settle", self.random.getrandbits(60), self.log, self.deaths * 4, stdin=subprocess.DEVNULL)
            code = process.wait()
            if code == 0:
                return
            need(code == -signal.SIGKILL, f"repair ends well: {code}")
        raise Trouble("repair came to no end")

    # The observer

    def lines(self):
        with open(self.log) as file:
            return [line.split() for line in file]

    def check_grants(self):
        """From the log: from the return of an assignment to the begin of its release an address is one handle's alone."""
        events = []
        for words in self.lines():
            if words[0] in ("grant", "giving") and len(words) == 5:
                events.append((int(words[1]), 0 if words[0] == "giving" else 1, words[3], words[4]))
            elif words[0] == "lost" and len(words) == 4:
                events.append((int(words[1]), 0, words[3], None))
        holders, held, grants = {}, collections.defaultdict(set), 0
        for _, is_grant, handle, address in sorted(events, key=lambda event: event[:2]):
            if is_grant:
                grants += 1
                need(address not in holders, f"{address} was given to {handle} while {holders.get(address)} had it")
                holders[address] = handle
                held[handle].add(address)
            else:
                for gone in [address] if address else list(held[handle]):
                    if holders.get(gone) == handle:
                        del holders[gone]
                    held[handle].discard(gone)
        return grants

    def check_stored(self):
        """From the store: blocks whole and disjoint, what is held is what endpoints use, counts and affinities right."""
        stored = {key: value for key, value in self.store.values(IPAM).items()}
        used = {}
        for key, value in self.store.values(ENDPOINTS).items():
            handle = key.split("/")[-1].split("-k8s-", 1)[1].removesuffix("-eth0").replace("--", "-")
            for network in json.loads(value)["spec"]["ipNetworks"]:
                need(network not in used, f"{network} is used by {used.get(network)} and {handle}")
                used[network] = handle
        held, counts, owners, networks = {}, collections.defaultdict(dict), {}, []
        for key, value in stored.items():
            if not key.startswith(IPAM + "assignment/"):
                continue
            block = json.loads(value)
            network = ipaddress.ip_network(block["cidr"])
            networks.append(network)
            taken = {ordinal for ordinal, index in enumerate(block["allocations"]) if index is not None}
            need(len(block["allocations"]) == network.num_addresses, f"{network} has as many allocations as addresses")
            need(sorted(taken | set(block["unallocated"])) == list(range(network.num_addresses)), f"{network}: each address is held or free")
            need(not taken & set(block["unallocated"]) and len(set(block["unallocated"])) == len(block["unallocated"]), f"{network}: none is both")
            if block.get("affinity"):
                owners[block["cidr"]] = block["affinity"]
            for ordinal in taken:
                handle = block["attributes"][block["allocations"][ordinal]]["handle_id"]
                address = network[ordinal]
                held[f"{address}/{address.max_prefixlen}"] = handle
                counts[handle][block["cidr"]] = counts[handle].get(block["cidr"], 0) + 1
        for index, network in enumerate(networks):
            need(not any(network.overlaps(other) for other in networks[:index] if other.version == network.version), f"{network} overlaps none")
        need(held == used, f"what is held is what is used; only held: {dict(held.items() - used.items())}, only used: {dict(used.items() - held.items())}")
        handles = {
            key[len(IPAM + "handle/"):]: json.loads(value)["block"] for key, value in stored.items() if key.startswith(IPAM + "handle/")}
        need(handles == dict(counts), f"handles count what blocks hold: {set(map(str, handles.items())) ^ set(map(str, counts.items()))}")
        affinities = {}
        for key, value in stored.items():
            if key.startswith(IPAM + "host/"):
                parts = key.split("/")
                need(json.loads(value)["state"] == "confirmed", f"{key} is confirmed")
                affinities[parts[-1][::-1].replace("-", "/", 1)[::-1]] = f"host:{parts[5]}"
        need(affinities == owners, f"blocks and affinities agree: {set(affinities.items()) ^ set(owners.items())}")
        return len(held)

    def check_nothing_lost(self, margay, capacity=256):
        """Whatever is not held can be given, to the last address."""
        free = capacity - sum("." in network for network in self.held_networks())
        given = 0
        # From every node, since one may have only so many blocks.
        for number in range(10_000):
            count = min(32, free - given) or 1
            done = subprocess.run(
                [margay, "ipam", "assign", "--datastore", self.store.name, "--handle", f"rest-{number}", "--node", f"node{number % self.processes}",
                 "--count", str(count)], capture_output=True, text=True)
            if given == free:
                need(done.returncode != 0, f"no more than {free} free addresses")
                break
            need(done.returncode == 0, f"all {free} free addresses can be given, {given} were: {done.stderr}")
            given += len(done.stdout.split())
        return free

    def held_networks(self):
        return [network for value in self.store.values(ENDPOINTS).values() for network in json.loads(value)["spec"]["ipNetworks"]]

    def steps(self):
        """How often each step was reached, and how often a process died there."""
        reached, died = collections.Counter(), collections.Counter()
        for words in self.lines():
            if words[0] in ("step", "death") and len(words) == 3:
                reached[words[1], words[2]] += 1
                if words[0] == "death":
                    died[words[1], words[2]] += 1
        return reached, died

    def end(self):
        self.store.end()
        shutil.rmtree(self.folder, ignore_errors=True)


def run(backend, processes, rounds, seed=1, seconds=120, everywhere=False, margay=f"{BUILD}/margay", **options):
    fire = Fire(backend, processes, rounds, seed, **options)
    started = time.monotonic()
    try:
        fire.burn(seconds)
        burnt = time.monotonic() - started
        grants = fire.check_grants()
        fire.settle()
        fire.check_grants()
        held = fire.check_stored()
        free = fire.check_nothing_lost(margay)
        reached, died = fire.steps()
        for step in STEPS:
            for moment in ("before", "after"):
                if everywhere:
                    need(reached[step, moment], f"step {step} ({moment}) to be reached; reached: {dict(reached)}")
                    # A place that is reached now and then may be survived by chance.
                    need(died[step, moment] or reached[step, moment] < 100, f"a death {moment} {step}; deaths: {dict(died)}")
        failed = [" ".join(words) for words in fire.lines() if words[0] == "failed"]
        need(not failed, f"no repair fails: {failed[:3]}")
        text = (
            f"{processes} × {rounds} rounds in {burnt:.0f} s: {grants} grants, {fire.lives} lives, {len(reached)} of {2 * len(STEPS)} places reached, "
            f"{sum(died.values())} deaths at {len(died)} of {2 * len(STEPS)} places and {fire.kills} from outside; held {held}, free {free}")
        if fire.problems:
            text += f"; other ends: {fire.problems}"
        return text, {f"{step} {moment}": (reached[step, moment], died[step, moment]) for step in STEPS for moment in ("before", "after")}
    except Trouble:
        keep = fire.folder + ".log"
        if os.path.exists(fire.log):
            shutil.copy(fire.log, keep)
            print(f"the log is kept: {keep}", file=sys.stderr)
        raise
    finally:
        fire.end()


if __name__ == "__main__":
    backend, processes, rounds = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
    text, places = run(
        backend, processes, rounds, seed=int(sys.argv[4]) if len(sys.argv) > 4 else 1, seconds=1800, everywhere=rounds >= 200)
    print(f"{backend}: {text}")
    for place, (reached, died) in places.items():
        print(f"  {place:24} reached {reached:6}  died {died:4}")
