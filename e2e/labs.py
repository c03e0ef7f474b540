"""A lab of `margay lab`, its places, its daemons' status, and commands run inside."""

import ctypes
import json
import os
import re
import signal
import socket
import subprocess
import threading

from claims import Claim, wait_until

BUILD = os.environ["MARGAY_BUILD"]
MARGAY = f"{BUILD}/margay"
CNI = f"{BUILD}/margay-cni"
PREFIX = os.environ["MARGAY_E2E_PREFIX"]
WORK = os.environ["MARGAY_E2E_WORK"]
HERE = os.path.dirname(os.path.abspath(__file__))
HOSTS = ["host1", "host2", "host3"]
CLONE_NEWNET = 0x40000000
libc = ctypes.CDLL(None, use_errno=True)


class Output(str):
    """What a command wrote (both streams) with its exit code."""

    code = 0


def run(*words, seconds=60, check=False, input=None, environment=None):
    try:
        done = subprocess.run(
            [str(word) for word in words], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, timeout=seconds, text=True, errors="replace",
            input=input, stdin=subprocess.DEVNULL if input is None else None,
            env=None if environment is None else {**os.environ, **environment})
    except subprocess.TimeoutExpired as late:
        raise Claim(f"`{' '.join(map(str, words))}` did not end within {seconds} s; it said: {(late.output or b'')[-800:]!r}")
    output = Output(done.stdout)
    output.code = done.returncode
    if check and done.returncode != 0:
        raise Claim(f"`{' '.join(map(str, words))}` ended with exit code {done.returncode}:\n{done.stdout[-3000:]}")
    return output


def margay(*words, **options):
    return run(MARGAY, *words, **options)


class inside:
    """The calling thread's network namespace for a while: sockets opened meanwhile stay there."""

    def __init__(self, namespace):
        self.path = f"/run/netns/{namespace}"

    def __enter__(self):
        self.home = os.open("/proc/thread-self/ns/net", os.O_RDONLY | os.O_CLOEXEC)
        there = os.open(self.path, os.O_RDONLY | os.O_CLOEXEC)
        try:
            if libc.setns(there, CLONE_NEWNET) != 0:
                raise OSError(ctypes.get_errno(), f"enter {self.path}")
        finally:
            os.close(there)

    def __exit__(self, *_):
        code = libc.setns(self.home, CLONE_NEWNET)
        os.close(self.home)
        if code != 0:
            os._exit(70)  # going on in the wrong namespace would test, and change, something else


def namespaces():
    try:
        return sorted(os.listdir("/run/netns"))
    except FileNotFoundError:
        return []


def processes_of(lab):
    """Pids of every process whose command line or network namespace is of this lab."""
    inodes = set()
    for name in namespaces():
        if name.startswith(f"margay-{lab}-"):
            try:
                inodes.add(os.stat(f"/run/netns/{name}").st_ino)
            except OSError:
                pass
    found = []
    for entry in os.listdir("/proc"):
        if not entry.isdigit() or int(entry) == os.getpid():
            continue
        try:
            line = open(f"/proc/{entry}/cmdline", "rb").read()
            inode = os.stat(f"/proc/{entry}/ns/net").st_ino
        except OSError:
            continue
        words = line.replace(b"\0", b" ").decode(errors="replace")
        if inode in inodes or f"/run/margay-lab/{lab}/" in words:
            found.append((int(entry), words))
    return found


def leftovers(lab):
    """Everything of a lab that is still on this machine, in words."""
    found = [f"namespace {name}" for name in namespaces() if name.startswith(f"margay-{lab}-")]
    found += [f"process {pid} {words[:100]}" for pid, words in processes_of(lab)]
    if os.path.exists(f"/run/margay-lab/{lab}"):
        found.append(f"/run/margay-lab/{lab}: {os.listdir(f'/run/margay-lab/{lab}')}")
    return found


class Workload:
    def __init__(self, name, host, namespace, container, addresses):
        self.name, self.host, self.namespace, self.container = name, host, namespace, container
        self.v4 = next((a for a in addresses if ":" not in a), None)
        self.v6 = next((a for a in addresses if ":" in a), None)

    def address(self, family):
        return self.v4 if family == 4 else self.v6


class Lab:
    def __init__(self, word, arrangement="mesh"):
        self.name = PREFIX + word
        self.arrangement = arrangement
        self.directory = f"/run/margay-lab/{self.name}"
        self.datastore = f"sqlite:{self.directory}/datastore.sqlite"

    def up(self):
        return run(MARGAY, "lab", "up", "--name", self.name, "--arrangement", self.arrangement, seconds=120)

    def down(self):
        return margay("lab", "down", "--name", self.name, seconds=30)

    def record(self):
        with open(f"{self.directory}/lab.json") as file:
            return json.load(file)

    def workloads(self):
        result = {}
        for name, entry in self.record()["workloads"].items():
            result[name] = Workload(name, entry["host"], self.namespace(name), entry["container"], entry["addresses"])
        return result

    def namespace(self, place):
        return f"margay-{self.name}-{place}"

    def exec(self, place, *words, **options):
        return run("ip", "netns", "exec", self.namespace(place), *words, **options)

    def json(self, place, *words):
        return json.loads(self.exec(place, *words, check=True) or "[]")

    def birdc(self, *words):
        return run("birdc", "-s", f"{self.directory}/rack/bird.ctl", *words, check=True)

    def apply(self, text, check=True):
        return margay("apply", "-f", "-", "--datastore", self.datastore, input=text, check=check)

    def status(self, host, daemon):
        """The daemon's own document; None if it does not answer."""
        try:
            with socket.socket(socket.AF_UNIX) as connection:
                connection.settimeout(5)
                connection.connect(f"{self.directory}/{host}/{daemon}.sock")
                octets = b""
                while True:
                    more = connection.recv(1 << 20)
                    if not more:
                        break
                    octets += more
            return json.loads(octets)
        except (OSError, ValueError):
            return None

    def endpoint(self, host, name):
        """Felix's word on one workload: found by the end of the endpoint's name or its interface."""
        status = self.status(host, "felix")
        for endpoint in (status or {}).get("endpoints", []):
            if endpoint["interface"] == name or name in endpoint["name"].replace("--", "-"):
                return endpoint
        return None

    def interface(self, workload):
        """The host's end of a workload's cable, found without Margay: by the peer's index."""
        peer = int(run("ip", "netns", "exec", workload.namespace, "cat", "/sys/class/net/eth0/iflink", check=True))
        for link in self.json(workload.host, "ip", "-j", "link"):
            if link["ifindex"] == peer:
                return link["ifname"]
        raise Claim(f"no interface of {workload.host} is the other end of {workload.name}'s eth0")

    def ruleset(self, host):
        """As text, without counters, and without the mark of who owns the table: it is gone while no margay lives, and that is all that is."""
        text = str(self.exec(host, "nft", "-s", "list", "ruleset", check=True))
        return re.sub(r"\n\tflags *(owner)?(?=\n)", "", re.sub(r" # progname \S+", "", text))

    def rules(self, host):
        """nft's own JSON of everything in the host's namespace."""
        return [entry for entry in self.json(host, "nft", "-j", "list", "ruleset")["nftables"]]

    def routes(self, host):
        """Every route of every table, as `ip` prints it, sorted. Expiring ones (redirects, router advertisements) included."""
        text = self.exec(host, "ip", "-4", "route", "show", "table", "all", check=True)
        text += self.exec(host, "ip", "-6", "route", "show", "table", "all", check=True)
        return sorted(line.strip() for line in text.splitlines())

    def bgp_established(self, host):
        status = self.status(host, "bgp")
        return bool(status) and bool(status["sessions"]) and all(s["state"].lower() == "established" for s in status["sessions"])


def attach_by_hand(lab, host, pod, pod_namespace, labels, command="ADD", container=None, timeout=30):
    """Runs margay-cni as a container runtime does, in a fresh namespace of the lab. Returns a Workload (ADD) or the output (else)."""
    namespace = lab.namespace(pod)
    if command == "ADD" and namespace not in namespaces():
        run("ip", "netns", "add", namespace, check=True)
    container = container or (pod.encode().hex() * 8)[:64]
    configuration = {
        "cniVersion": "1.0.0", "name": "k8s-pod-network", "type": "margay-cni",
        "ipam": {"type": "calico-ipam", "assign_ipv4": "true", "assign_ipv6": "true"},
        "margay": {"socket": f"{lab.directory}/{host}/cni.sock", "tombstones": f"{lab.directory}/{host}/state/tombstones"},
        "args": {"cni": {"labels": [{"key": key, "value": value} for key, value in labels.items()]}},
    }
    output = run(
        "ip", "netns", "exec", lab.namespace(host), CNI, input=json.dumps(configuration), seconds=timeout,
        environment={
            "CNI_COMMAND": command, "CNI_CONTAINERID": container, "CNI_NETNS": f"/run/netns/{namespace}", "CNI_IFNAME": "eth0",
            "CNI_PATH": BUILD,
            "CNI_ARGS": f"IgnoreUnknown=1;K8S_POD_NAMESPACE={pod_namespace};K8S_POD_NAME={pod};K8S_POD_INFRA_CONTAINER_ID={container}",
        })
    if output.code != 0:
        raise Claim(f"margay-cni {command} of {pod} on {host}: exit code {output.code}: {output}")
    if command != "ADD":
        return output
    addresses = [ip["address"].split("/")[0] for ip in json.loads(output)["ips"]]
    return Workload(pod, host, namespace, container, addresses)


def detach_by_hand(lab, workload, pod_namespace, delete_namespace=True):
    attach_by_hand(lab, workload.host, workload.name, pod_namespace, {}, command="DEL", container=workload.container)
    if delete_namespace:
        run("ip", "netns", "delete", workload.namespace, check=True)


def _as_from_a_terminal():
    """A shell's background jobs ignore Ctrl-C, and their children inherit that; what a terminal starts does not."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)


class Background:
    """A program whose lines are read as they come."""

    def __init__(self, *words, group=False, environment=None):
        self.words = [str(word) for word in words]
        self.lines = []
        self.process = subprocess.Popen(
            self.words, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, errors="replace", bufsize=1,
            start_new_session=group, preexec_fn=_as_from_a_terminal if group else None, env=None if environment is None else {**os.environ, **environment})
        self.thread = threading.Thread(target=self._read, daemon=True)
        self.thread.start()

    def _read(self):
        for line in self.process.stdout:
            self.lines.append(line.rstrip("\n"))

    @property
    def text(self):
        return "\n".join(self.lines)

    def wait_for(self, words, seconds=10):
        def found():
            if words in self.text:
                return True
            if self.process.poll() is not None:
                self.thread.join(1)
                return words in self.text
            return False
        try:
            return wait_until(f"`{self.words[0]}` says \"{words}\"", seconds, found)
        except Claim as claim:
            raise Claim(f"{claim}; it said: {self.text[-600:]}")

    def signal_group(self, number):
        os.killpg(self.process.pid, number)

    def wait(self, seconds):
        try:
            code = self.process.wait(seconds)
        except subprocess.TimeoutExpired:
            raise Claim(f"`{' '.join(self.words)}` did not end within {seconds} s; it said: {self.text[-600:]}")
        self.thread.join(2)
        return code

    def end(self):
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
            try:
                self.process.wait(3)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait()
        self.thread.join(2)
        return self.text


class Capture(Background):
    """tcpdump in a namespace; made when it captures already."""

    def __init__(self, namespace, interface, expression, *options):
        super().__init__(
            "ip", "netns", "exec", namespace, "tcpdump", "-l", "-n", "-e", "--immediate-mode", "-i", interface, *options, expression)
        self.wait_for("listening on", 10)

    def packets(self):
        return [line for line in self.lines if "listening on" not in line and " > " in line]
