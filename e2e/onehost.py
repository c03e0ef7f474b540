"""One host with `margay felix` alone, on an etcd of its own: for what is done to a host's kernel, agent and datastore while traffic runs.

The host is a network namespace; so is each workload. Records and policies are written as any client of etcd would write them, many in a
second. `Traffic` sends what policy allows and what it denies, and counts both by number.
"""

import base64
import collections
import http.client
import json
import os
import re
import shutil
import signal
import socket
import struct
import subprocess
import threading
import time

from claims import Claim, expect, expect_equal, wait_until
from labs import MARGAY, PREFIX, WORK, inside, run
from traffic import Echo, Flows, _socket

ROOT = "/calico/resources/v3/projectcalico.org"
GATEWAY4, GATEWAY6, GATEWAY_MAC = "169.254.1.1", "fe80::ecee:eeff:feee:eeee", "ee:ee:ee:ee:ee:ee"
NODE = "h1"
# In full size: minutes instead of seconds.
LONG = bool(os.environ.get("MARGAY_LONG_TESTS"))


def ip(namespace, *lines, check=True):
    """One `ip -batch` in a namespace."""
    return run("ip", "-n", namespace, "-batch", "-", input="\n".join(lines) + "\n", check=check)


class Store:
    """etcd through its JSON gateway, over one connection."""

    def __init__(self, namespace):
        self.namespace = namespace
        self.connection = None
        self.lock = threading.Lock()

    def _call(self, path, body):
        with self.lock:
            for attempt in (1, 2):
                try:
                    if self.connection is None:
                        with inside(self.namespace):
                            self.connection = http.client.HTTPConnection("127.0.0.1", 2379, timeout=10)
                            self.connection.connect()
                            self.connection.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                    self.connection.request("POST", path, json.dumps(body), {"Content-Type": "application/json"})
                    answer = self.connection.getresponse()
                    octets = answer.read()
                    if answer.status != 200:
                        raise Claim(f"etcd answers {answer.status}: {octets[:300]!r}")
                    return json.loads(octets)
                except (OSError, http.client.HTTPException):
                    self.connection = None
                    if attempt == 2:
                        raise

    @staticmethod
    def _word(text):
        return base64.b64encode(text.encode()).decode()

    def transact(self, puts=(), deletes=()):
        """All of it at once; returns the revision."""
        operations = [{"requestPut": {"key": self._word(key), "value": self._word(json.dumps(value))}} for key, value in puts]
        operations += [{"requestDeleteRange": {"key": self._word(key)}} for key in deletes]
        revision = 0
        for start in range(0, len(operations), 100):
            revision = int(self._call("/v3/kv/txn", {"success": operations[start:start + 100]})["header"]["revision"])
        return revision

    def put(self, key, value):
        return self.transact(puts=[(key, value)])

    def delete(self, key):
        return self.transact(deletes=[key])


class Workload:
    def __init__(self, host, name, number, labels, subnet=65):
        self.host, self.name, self.number, self.labels = host, name, number, labels
        self.namespace = f"{PREFIX}r{name}"
        self.interface = f"cali{name}"
        self.v4, self.v6 = f"10.{subnet}.{number // 250}.{number % 250 + 1}", f"fd{subnet}::{number + 1:x}"
        self.mac = f"02:00:00:{subnet:02x}:{number >> 8:02x}:{number & 255:02x}"

    def address(self, family):
        return self.v4 if family == 4 else self.v6

    @property
    def key(self):
        return f"{ROOT}/workloadendpoints/default/{NODE}-k8s-{self.name}-eth0"

    def record(self, **changes):
        spec = {
            "orchestrator": "k8s", "node": NODE, "pod": self.name, "endpoint": "eth0", "interfaceName": self.interface, "mac": self.mac,
            "ipNetworks": [f"{self.v4}/32", f"{self.v6}/128"], "profiles": ["projectcalico-default-allow"], **changes}
        metadata = {"name": f"{NODE}-k8s-{self.name}-eth0", "namespace": "default", "labels": self.labels}
        return {"apiVersion": "projectcalico.org/v3", "kind": "WorkloadEndpoint", "metadata": metadata, "spec": spec}

    def cable(self):
        """The interface pair as the CNI plugin leaves it: addresses, gateway, permanent neighbours."""
        ip(self.host.namespace, f"link add {self.interface} address {GATEWAY_MAC} type veth peer name eth0 address {self.mac} netns {self.namespace}")
        run("ip", "netns", "exec", self.namespace, "sysctl", "-qw", "net.ipv6.conf.eth0.accept_dad=0", check=True)
        ip(self.namespace, "link set lo up", "link set eth0 up", f"address add {self.v4}/32 dev eth0", f"address add {self.v6}/128 dev eth0 nodad",
           f"route add {GATEWAY4} dev eth0 scope link", f"route add default via {GATEWAY4}", f"route add ::/0 via {GATEWAY6} dev eth0",
           f"neigh replace {GATEWAY4} lladdr {GATEWAY_MAC} dev eth0 nud permanent", f"neigh replace {GATEWAY6} lladdr {GATEWAY_MAC} dev eth0 nud permanent")
        ip(self.host.namespace, f"link set {self.interface} up")


def policy(name, spec, kind="NetworkPolicy"):
    """Key and document."""
    metadata = {"name": name} if kind.startswith("Global") else {"name": name, "namespace": "default"}
    place = {"NetworkPolicy": f"networkpolicies/default/{name}", "GlobalNetworkPolicy": f"globalnetworkpolicies/{name}",
             "StagedNetworkPolicy": f"stagednetworkpolicies/default/{name}",
             "FelixConfiguration": f"felixconfigurations/{name}"}[kind]
    if kind == "FelixConfiguration":
        metadata = {"name": name}
    return f"{ROOT}/{place}", {"apiVersion": "projectcalico.org/v3", "kind": kind, "metadata": metadata, "spec": spec}


def rule(action, protocol, source=None, ports=None):
    made = {"action": action, "protocol": protocol}
    if source:
        made["source"] = {"selector": source}
    if ports:
        made["destination"] = {"ports": ports}
    return made


class Host:
    def __init__(self, word="rh"):
        self.namespace = f"{PREFIX}{word}"
        self.directory = f"{WORK}/{word}"
        self.data = f"/dev/shm/{PREFIX}{word}" if os.path.isdir("/dev/shm") else f"{self.directory}/etcd"
        self.etcd = self.felix = None
        self.environment = {}
        self.workloads = {}
        self.store = Store(self.namespace)
        self.made = []
        os.makedirs(self.directory, exist_ok=True)

    # Coming and going

    def up(self):
        run("ip", "netns", "add", self.namespace, check=True)
        self.made.append(self.namespace)
        ip(self.namespace, "link set lo up", "address add 172.30.9.1/32 dev lo", "address add fd30:9::1/128 dev lo nodad")
        self.start_etcd()
        self.store.transact(puts=[
            policy("default", {"defaultEndpointToHostAction": "Accept"}, "FelixConfiguration"),
            policy("server", {
                "selector": "role == 'server'", "types": ["Ingress"], "order": 10,
                "ingress": [
                    rule("Allow", "TCP", "role == 'client'", [80]), rule("Allow", "UDP", "role == 'client'", [5000]),
                    rule("Allow", "ICMP", "role == 'client'"), rule("Allow", "ICMPv6", "role == 'client'")]})])
        for number, (name, labels) in enumerate((("client", {"role": "client"}), ("server", {"role": "server"}), ("thief", {"role": "thief"}))):
            self.add(Workload(self, name, number, labels))
        self.start_felix()

    def add(self, workload):
        run("ip", "netns", "add", workload.namespace, check=True)
        self.made.append(workload.namespace)
        workload.cable()
        self.store.put(workload.key, workload.record())
        self.workloads[workload.name] = workload
        return workload

    def down(self):
        self.kill_felix()
        self.stop_etcd()
        for namespace in self.made:
            run("ip", "netns", "delete", namespace)
        shutil.rmtree(self.data, ignore_errors=True)

    def start_etcd(self):
        with open(f"{self.directory}/etcd.log", "ab") as log:
            self.etcd = subprocess.Popen(
                ["ip", "netns", "exec", self.namespace, "etcd", "--data-dir", self.data, "--listen-client-urls", "http://127.0.0.1:2379",
                 "--advertise-client-urls", "http://127.0.0.1:2379", "--listen-peer-urls", "http://127.0.0.1:2380"],
                stdin=subprocess.DEVNULL, stdout=log, stderr=log)

        def answers():
            try:
                return self.store._call("/v3/kv/range", {"key": "YQ=="})
            except (OSError, http.client.HTTPException, Claim):
                return None
        wait_until("etcd answers", 30, answers, pause=0.05)

    def stop_etcd(self):
        if self.etcd:
            self.etcd.kill()
            self.etcd.wait()
            self.etcd = None

    def start_felix(self, wait=True):
        self.log = open(f"{self.directory}/felix.log", "ab")
        self.felix = subprocess.Popen(
            ["ip", "netns", "exec", self.namespace, MARGAY, "felix", "--name", NODE, "--run-dir", f"{self.directory}/run",
             "--state-dir", f"{self.directory}/state", "--datastore", "etcd://127.0.0.1:2379", "--log-level", "info"],
            stdin=subprocess.DEVNULL, stdout=self.log, stderr=self.log, env={**os.environ, **self.environment})
        if wait:
            self.in_sync()

    def kill_felix(self, number=signal.SIGKILL):
        if self.felix:
            self.felix.send_signal(number)
            self.felix.wait(10)
            self.log.close()
            self.felix = None

    def mend(self):
        """After a claim that failed half-way: the next one finds everything running."""
        if self.etcd is None:
            self.start_etcd()
        self.environment = {}
        self.restart_felix()

    def restart_felix(self):
        self.kill_felix()
        self.start_felix()

    # Asking

    def status(self):
        try:
            with socket.socket(socket.AF_UNIX) as connection:
                connection.settimeout(10)
                connection.connect(f"{self.directory}/run/felix.sock")
                octets = b""
                while more := connection.recv(1 << 20):
                    octets += more
            return json.loads(octets)
        except (OSError, ValueError):
            return None

    def in_sync(self, revision=0, seconds=20):
        """Until everything up to the revision is in the kernel, and every endpoint of this rig is up."""
        last = [None]

        def there():
            last[0] = status = self.status()
            return status and status["inSync"] and status["revision"] >= revision and all(
                any(e["interface"] == w.interface and e["state"] == "up" for e in status["endpoints"]) for w in self.workloads.values()) and status
        return wait_until(lambda: f"felix is in sync: {json.dumps(last[0])[:1500]}; {self.log_tail()}", seconds, there, pause=0.02)

    def log_tail(self):
        return open(f"{self.directory}/felix.log", errors="replace").read()[-1500:]

    def exec(self, *words, **options):
        return run("ip", "netns", "exec", self.namespace, *words, **options)

    def cpu(self):
        """Seconds that felix has computed, its kernel's share included."""
        fields = open(f"/proc/{self.felix.pid}/stat").read().rsplit(")", 1)[1].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    def memory(self):
        """Resident MiB of felix."""
        return int(re.search(r"VmRSS:\s+(\d+)", open(f"/proc/{self.felix.pid}/status").read())[1]) / 1024

    def descriptors(self):
        return len(os.listdir(f"/proc/{self.felix.pid}/fd"))

    def kernel(self):
        """All that felix is answerable for, in a form in which equal kernels are equal: no counters, handles, or order where there is none."""
        found = {}
        for entry in json.loads(self.exec("nft", "-j", "list", "table", "inet", "margay", check=True))["nftables"]:
            for kind, body in entry.items():
                body.pop("handle", None)
                if kind == "rule":
                    body["expr"] = [{"counter": None} if "counter" in e else e for e in body["expr"]]
                    body.pop("index", None)
                    found.setdefault(f"rules of {body['chain']}", []).append(json.dumps(body, sort_keys=True))
                elif kind in ("set", "map"):
                    elements = body.pop("elem", [])
                    found[f"{kind} {body['name']}"] = [json.dumps(body, sort_keys=True)] + sorted(json.dumps(e, sort_keys=True) for e in elements)
                elif kind == "chain":
                    found[f"chain {body['name']}"] = json.dumps(body, sort_keys=True)
        for family in ("-4", "-6"):
            found[f"routes {family}"] = self.routes(family)
        found["neighbours"] = sorted(line.strip() for line in self.exec("ip", "neigh", "show", "nud", "permanent", check=True).splitlines() if " cali" in line)
        addresses = self.json("ip", "-j", "address")
        found["addresses"] = sorted(
            (link["ifname"], a["local"], a["prefixlen"], a["scope"]) for link in addresses if link["ifname"].startswith("cali") for a in link["addr_info"])
        found["settings"] = sorted(self.exec(
            "sh", "-c", "cd /proc/sys/net; grep . ipv4/ip_forward ipv6/conf/all/forwarding "
            "ipv[46]/conf/cali*/forwarding ipv4/conf/cali*/proxy_arp ipv6/conf/cali*/proxy_ndp ipv4/conf/cali*/route_localnet", check=True).splitlines())
        return found

    def kernel_or_nothing(self):
        """While the table may be away."""
        try:
            return self.kernel()
        except Claim:
            return {}

    def routes(self, family):
        return sorted(
            re.sub(r"\s+", " ", line).strip()
            for line in self.exec("ip", "-d", family, "route", "show", "table", "main", "proto", "80", check=True).splitlines())

    def json(self, *words):
        return json.loads(self.exec(*words, check=True) or "[]")

    def sizes(self):
        kernel = self.kernel()
        table = [key for key in kernel if key.split()[0] in ("set", "map", "chain", "rules")]
        return {
            "sets": sum(key.startswith(("set ", "map ")) for key in table), "chains": sum(key.startswith("chain ") for key in table),
            "rules": sum(len(kernel[key]) for key in table if key.startswith("rules ")),
            "elements": sum(len(kernel[key]) - 1 for key in table if key.startswith(("set ", "map "))),
            "routes": len(kernel["routes -4"]) + len(kernel["routes -6"]), "neighbours": len(kernel["neighbours"]), "addresses": len(kernel["addresses"])}


def differences(before, after):
    words = []
    for key in sorted(set(before) | set(after)):
        was, now = before.get(key), after.get(key)
        if was == now:
            continue
        if isinstance(was, list) and isinstance(now, list):
            words.append(f"{key}: gone {[x for x in was if x not in now][:3]}, new {[x for x in now if x not in was][:3]}")
        else:
            words.append(f"{key}: was {str(was)[:300]}, is {str(now)[:300]}")
    return words


def expect_same(before, after, when):
    found = differences(before, after)
    expect(not found, f"the kernel to be the same {when}", "; ".join(found[:6]))


def converged(host, before=None, when=""):
    """What stands is what the agent would make: a restarted one changes nothing. With `before`: and it is what it was."""
    status = host.in_sync()
    now = host.kernel()
    if before is not None:
        expect_same(before, now, when)
    host.restart_felix()
    expect_equal(host.status()["kernelChanges"], 0, f"changes that a restarted felix makes {when}")
    expect_same(now, host.kernel(), f"after a restart of felix {when}")
    return status


class Denied:
    """Sends without pause what policy denies; every datagram says so in its first octets."""

    def __init__(self, host, interval=0.005):
        self.host, self.interval = host, interval
        client, server, thief = (host.workloads[name] for name in ("client", "server", "thief"))
        self.sockets, self.sent, self.through = [], 0, []
        for family in (4, 6):
            for source, port in ((thief, 5000), (client, 5001)):
                one = _socket(source.namespace, family, socket.SOCK_DGRAM)
                one.setblocking(False)
                self.sockets.append((one, (server.address(family), port), source.name))
        self.namespace, self.targets = thief.namespace, [(family, server.address(family)) for family in (4, 6)]
        self.stopping = threading.Event()
        self.thread = threading.Thread(target=self._run, daemon=True)
        self.thread.start()

    def _run(self):
        attempts, due, turn = collections.deque(), time.monotonic(), 0
        while not self.stopping.is_set():
            for one, to, name in self.sockets:
                try:
                    one.sendto(b"denied " + struct.pack("!d", time.monotonic()) + name.encode(), to)
                    self.sent += 1
                except OSError:
                    pass
            turn += 1
            # Connections too: a new one every 50 ms in turn of the families, each watched for a second and a half.
            if turn % 10 == 0:
                family, address = self.targets[turn // 10 % 2]
                try:
                    one = _socket(self.namespace, family, socket.SOCK_STREAM)
                    one.setblocking(False)
                    one.connect_ex((address, 80))
                    attempts.append((one, address, time.monotonic()))
                except OSError:
                    pass
                while attempts and attempts[0][2] < time.monotonic() - 1.5:
                    one, address, since = attempts.popleft()
                    try:
                        one.getpeername()
                        self.through.append((since, f"a connection of thief to {address}:80"))
                    except OSError:
                        pass
                    one.close()
            due = max(due + self.interval, time.monotonic() - 0.1)
            self.stopping.wait(max(0, due - time.monotonic()))
        for one, address, since in attempts:
            try:
                one.getpeername()
                self.through.append((since, f"a connection of thief to {address}:80"))
            except OSError:
                pass
            one.close()

    def finish(self, echo):
        """When something denied came through, and what: by the time at which it was sent."""
        self.stopping.set()
        self.thread.join(5)
        for one, _, _ in self.sockets:
            one.close()
        found = [(struct.unpack("!d", octets[7:15])[0], f"a datagram of {octets[15:].decode()}") for octets in echo.received if octets[:7] == b"denied "]
        return sorted(found + self.through)


class Traffic:
    """Flows that policy allows, in both families, and attempts that it denies, for as long as the block lasts.

    `lost_seconds`: how long one flow may be without answers; 0: not one request may be lost. `open_seconds`: how long what is denied may
    pass; 0: not one may. At the end of the block both are compared, and `words` say what was seen.
    """

    def __init__(self, host, lost_seconds=0.0, open_seconds=0.0, interval=0.005):
        self.host, self.lost_seconds, self.open_seconds = host, lost_seconds, open_seconds
        self.interval = interval

    def __enter__(self):
        server, client = self.host.workloads["server"], self.host.workloads["client"]
        self.echo = Echo(server.namespace, tcp=[80], udp=[5000, 5001])
        self.flows = Flows(self.interval)
        try:
            for family in (4, 6):
                self.flows.add("tcp", client, server.address(family), 80)
                self.flows.add("udp", client, server.address(family), 5000)
                self.flows.add("icmp", client, server.address(family))
            self.flows.start()
        except BaseException:
            self.flows.finish()
            self.echo.close()
            raise
        self.began = time.monotonic()
        self.denied = Denied(self.host)
        return self

    def silence(self):
        """The longest time of any flow without an answered request, in seconds of sending, and whose it is."""
        worst = (0.0, "no flow")
        for flow in self.flows.flows:
            last = None
            moments = [(sent, number in flow.answered) for number, sent in enumerate(flow.times)] + [(moment, False) for moment in flow.refused]
            for moment, answered in sorted(moments):
                if answered:
                    last = moment
                elif last is not None:
                    worst = max(worst, (moment - last, flow.name))
        return worst

    def answered(self):
        return {flow.name: len(flow.answered) for flow in self.flows.flows}

    def goes_on(self, what, seconds=5):
        """Every flow is answered anew."""
        before = self.answered()
        silent = lambda: ", ".join(name for name, count in self.answered().items() if count < before[name] + 20)
        wait_until(lambda: f"every flow goes on {what}; silent: {silent()}", seconds, lambda: not silent())

    def __exit__(self, kind, *_):
        sent, problems = self.flows.finish()
        through = self.denied.finish(self.echo)
        self.echo.close()
        if kind is not None:
            return
        self.through = through
        silence, whose = self.silence()
        lost = sum(flow.lost for flow in self.flows.flows)
        spread = through[-1][0] - through[0][0] if through else 0
        self.words = f"{sent} requests" + (f", {lost} lost, at most {silence * 1000:.0f} ms without an answer" if lost else ", none lost")
        self.words += f"; {self.denied.sent} denied datagrams" + (f", {len(through)} through within {spread * 1000:.0f} ms" if through else ", none through")
        # A connection that ends is lost for good; a datagram that meets no route is told so, and the next one may pass.
        broken = [f"{flow.name}: {flow.problem}" for flow in self.flows.flows if flow.problem and (flow.kind == "tcp" or self.lost_seconds == 0)]
        expect(not broken, "no flow to break", "; ".join(broken))
        if self.lost_seconds == 0:
            expect(not problems, f"none of {sent} requests lost", "; ".join(problems))
        else:
            expect(silence <= self.lost_seconds, f"no flow to be without answers for more than {self.lost_seconds} s", f"{silence:.3f} s, {whose}; {'; '.join(problems)}")
        if self.open_seconds == 0:
            expect(not through, "nothing that policy denies to pass", f"{len(through)} times in {spread:.3f} s, first {through[0][0] - self.began if through else 0:.3f} s after the start: {[what for _, what in through[:5]]}")
        else:
            expect(spread <= self.open_seconds, f"what policy denies to pass for no longer than {self.open_seconds} s", f"{spread:.3f} s, {len(through)} times")


def timed(what, seconds, condition):
    started = time.monotonic()
    wait_until(what, seconds, condition, pause=0.002)
    return (time.monotonic() - started) * 1000


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


def run_group(claim, bodies):
    """On a host of their own, each after the other."""
    host = Host()
    try:
        host.up()
        for text, body in bodies:
            if not claim(text, body, host):
                host.mend()
    finally:
        host.down()
