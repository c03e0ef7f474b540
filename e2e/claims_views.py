"""What people read: objects in every form, changes as they happen, shells and manuals, this host under examination."""

import fcntl
import json
import os
import pty
import re
import select
import shutil
import signal
import socket
import sqlite3
import struct
import subprocess
import tarfile
import termios
import time

from claims import Claim, expect, expect_equal, wait_until
from labs import BUILD, MARGAY, PREFIX, WORK, Background, run

STORE = f"{WORK}/views.sqlite"
PLACE = {"MARGAY_DATASTORE": f"sqlite:{STORE}", "ETCD_ENDPOINTS": "", "NO_COLOR": ""}
HEAD = "apiVersion: projectcalico.org/v3\n"
ROOT = "/calico/resources/v3/projectcalico.org"
OBJECTS = f"""\
{HEAD}kind: Tier
metadata: {{name: security}}
spec: {{order: 100}}
---
{HEAD}kind: NetworkPolicy
metadata: {{name: web-10, namespace: shop, labels: {{app: web, projectcalico.org/team: blue}}}}
spec:
  tier: security
  order: 10
  selector: app == 'web'
  ingress:
    - {{action: Allow, protocol: TCP, source: {{selector: role == 'client'}}, destination: {{ports: [80, 8000:8100]}}}}
  egress:
    - {{action: Deny}}
---
{HEAD}kind: NetworkPolicy
metadata: {{name: web-2, namespace: shop, labels: {{app: db}}}}
spec: {{tier: security, selector: app == 'db', ingress: [{{action: Log}}]}}
---
{HEAD}kind: NetworkPolicy
metadata: {{name: web-1, namespace: default}}
spec: {{selector: all(), types: [Ingress]}}
---
{HEAD}kind: IPPool
metadata: {{name: blue}}
spec: {{cidr: 10.65.0.0/16, natOutgoing: true}}
---
{HEAD}kind: GlobalNetworkSet
metadata: {{name: partners}}
spec: {{nets: [{", ".join(f"192.0.2.{n}/32" for n in range(40))}]}}
"""


def margay(*words, environment={}, **options):
    return run(MARGAY, *words, environment={**PLACE, **environment}, **options)


def stored():
    """The objects that the claims look at, once."""
    margay("apply", "-f", "-", input=OBJECTS, check=True)


def forms():
    """Tables, documents, names and templates; as calicoctl and kubectl write them."""
    expect_equal(margay("get", "networkpolicy", "-n", "shop", check=True).splitlines()[0].split(), ["NAME", "TIER", "ORDER", "SELECTOR"], "headings")
    lines = margay("get", "np", "-A", "-o", "wide", check=True).splitlines()
    expect(lines[0].startswith("NAMESPACE") and len(lines) == 4, "three policies with their namespace", lines)
    expect_equal(margay("get", "np,pools", "-n", "shop", "-o", "name", "--sort-by", ".metadata.name", check=True).split(),
                 ["networkpolicy/web-2", "networkpolicy/web-10", "ippool/blue"], "several kinds, sorted as people count")
    expect_equal(margay("get", "-n", "shop", "np/web-2", "pool/blue", "tier/security", "-o", "name", check=True).split(),
                 ["networkpolicy/web-2", "ippool/blue", "tier/security"], "KIND/NAME")
    everything = margay("get", "all", "-A", check=True)
    expect(all(word in everything for word in ("networkpolicy/web-10", "ippool/blue", "tier/security", "globalnetworkset/partners")), "all", everything)
    calicoctl = "{{range .}}{{range .Items}}{{.ObjectMeta.Name}} {{.Spec.CIDR}} {{.Spec.NATOutgoing}}{{end}}{{end}}"
    expect_equal(margay("get", "ippool", "-o", f"go-template={calicoctl}", check=True), "blue 10.65.0.0/16 true\n", "calicoctl's kind of template")
    kubectl = '{{range .items}}{{range .spec.ingress}}{{join (index .destination.ports) ","}}{{end}}{{end}}'
    expect_equal(margay("get", "np", "-n", "shop", "-l", "app=web", "-o", f"go-template={kubectl}", check=True), "80,8000:8100\n", "kubectl's kind of template")
    expect_equal(margay("get", "np", "-n", "shop", "-o", 'jsonpath={range .items[?(@.spec.order==10)]}{.metadata.name}{"\\n"}{end}', check=True), "web-10\n", "jsonpath")
    expect_equal(margay("get", "pools", "-o", "custom-columns=NAME,CIDR,MASQ:.spec.natOutgoing,NONE:.spec.none", "--no-headers", check=True).split(),
                 ["blue", "10.65.0.0/16", "true", "<none>"], "columns of calicoctl's and of kubectl's kind")
    for kind, content, expected in (("custom-columns", "A B\nmetadata.name spec.cidr\n", "A     B\nblue  10.65.0.0/16\n"), ("go-template", "{{len .items}}", "1\n"),
                                    ("jsonpath", "{.items[0].kind}", "IPPool\n")):
        with open(f"{WORK}/form", "w") as file:
            file.write(content)
        expect_equal(margay("get", "pools", "-o", f"{kind}-file={WORK}/form", check=True), expected, f"{kind}-file")
    for selector in ("app=web", "app in (web, x)", "app == 'web'", "has(projectcalico.org/team)", "app,app!=db"):
        expect_equal(margay("get", "np", "-n", "shop", "-l", selector, "-o", "name", check=True), "networkpolicy/web-10\n", f"-l {selector}")
    labelled = margay("get", "np", "-n", "shop", "-L", "projectcalico.org/team", "--show-labels", check=True)
    expect("TEAM" in labelled and "app=web,projectcalico.org/team=blue" in labelled and "<none>" in labelled, "-L and --show-labels", labelled)


def back_again():
    """What get gives is what apply takes, and changes nothing; --export has nothing of this cluster."""
    for words in (("np", "-A"), ("all", "-A"), ("np", "web-2", "-n", "shop")):
        for form in ("yaml", "json"):
            document = margay("get", *words, "-o", form, check=True)
            output = margay("apply", "-f", "-", input=document, check=True)
            lines = output.splitlines()
            expect(lines and all("unchanged" in line for line in lines if re.match(r"[A-Z]\w+ ", line)), f"get {' '.join(words)} -o {form} | apply: unchanged", output)
    exported = json.loads(margay("get", "np", "-A", "-o", "json", "--export", check=True))
    expect(len(exported["items"]) == 3 and not re.search(r"uid|resourceVersion|creationTimestamp", json.dumps(exported)), "an export", exported)
    with open(f"{WORK}/objects.yaml", "w") as file:
        file.write(OBJECTS)
    expect_equal(len(margay("get", "-f", f"{WORK}/objects.yaml", "-o", "name", check=True).split()), 6, "what a file names")
    os.makedirs(f"{WORK}/some/below", exist_ok=True)
    with open(f"{WORK}/some/below/tier.yaml", "w") as file:
        file.write(OBJECTS.split("---")[0])
    expect_equal(margay("get", "-R", "-f", f"{WORK}/some", "-o", "name", check=True), "tier/security\n", "what a directory names, and those below it")
    expect("-R" in margay("get", "-f", f"{WORK}/some"), "a hint to -R")


def exit_codes():
    for words, code, said in (
        (("get", "np", "web-1"), 0, "web-1"), (("get", "np", "nosuch"), 1, "NetworkPolicy default/nosuch does not exist"),
        (("get", "np", "web-1", "nosuch", "-o", "name"), 1, "networkpolicy/web-1"), (("get", "pods"), 64, "networkpolicy"), (("get",), 64, "kind"),
        (("get", "np", "-o", "picture"), 64, "custom-columns"), (("get", "np", "-l", "a = 'b'"), 64, "character 3"),
        (("get", "np", "-o", "go-template={{range .items}}\n{{nosuch}}"), 64, "line 2, column 3"), (("get", "np", "-o", "jsonpath={.a"), 64, "line 1, column 1"),
        (("get", "np", "-o", "custom-columns=NOSUCH"), 64, "SELECTOR"), (("get", "np", "--datastore", "etcd://127.0.0.1:1"), 2, "127.0.0.1:1"),
        (("get", "np", "--datastore", f"sqlite:{WORK}/none.sqlite"), 2, "none.sqlite"), (("version", "--datastore", "etcd://127.0.0.1:1"), 2, "Client Version"),
    ):
        output = margay(*words)
        expect(output.code == code and said in output, f"`margay {' '.join(words)}` to end with {code} and say `{said}`", f"{output.code}: {output}")
    expect(not os.path.exists(f"{WORK}/none.sqlite"), "a mistyped path not to become a datastore")


def unreadable_is_shown():
    """Values that no writer of ours stores: shown, explained, and nothing else is lost for them."""
    broken = {f"{ROOT}/networkpolicies/shop/broken": b"{", f"{ROOT}/networkpolicies/shop/odd": json.dumps(
        {"kind": "NetworkPolicy", "apiVersion": "projectcalico.org/v3", "metadata": {"name": "odd", "namespace": "shop"},
         "spec": {"selector": "app == 'x'", "ingress": [{"action": "Allow"}, {"action": "Permit"}], "order": 5}}).encode()}
    with sqlite3.connect(STORE, timeout=10) as connection:
        columns = [row[1] for row in connection.execute("PRAGMA table_info(item)")]
        expect({"key", "value"} <= set(columns), "the store's table `item`", columns)
        sample = dict(zip(columns, connection.execute("SELECT * FROM item WHERE key LIKE '%web-1'").fetchone()))
        for key, value in broken.items():
            row = {**sample, "key": key, "value": value}
            connection.execute(f"INSERT INTO item ({', '.join(columns)}) VALUES ({', '.join('?' * len(columns))})", [row[name] for name in columns])
    connection.close()
    try:
        output = margay("get", "np", "-n", "shop", check=True)
        expect(re.search(r"^broken +UNREADABLE", output, re.M) and "web-10" in output and "not JSON" in output, "the broken one among the others, and why", output)
        invalid = margay("get", "--invalid", check=True)
        expect("shop/broken" in invalid and 'spec.ingress[1].action: "Permit"' in invalid and "rule 2 denies" in invalid and "web-10" not in invalid,
               "only what would not be accepted, with what it costs", invalid)
        faults = {item["name"]: item["faults"] for item in json.loads(margay("get", "--invalid", "-o", "json", check=True))["items"]}
        expect(set(faults) == {"broken", "odd"} and faults["odd"][0]["path"] == "spec.ingress[1].action" and faults["odd"][0]["effect"], "the same as JSON", faults)
        wide = margay("get", "np", "odd", "-n", "shop", "-o", "wide", "--no-headers", check=True).split()
        expect_equal(wide[-1], "1", "the count of faults in the wide table")
    finally:
        with sqlite3.connect(STORE, timeout=10) as connection:
            connection.executemany("DELETE FROM item WHERE key = ?", [(key,) for key in broken])
        connection.close()


# Watching


class Etcd:
    """One of our own on loopback."""

    def __init__(self):
        ports = []
        sockets = [socket.socket() for _ in range(2)]
        for one in sockets:
            one.bind(("127.0.0.1", 0))
            ports.append(one.getsockname()[1])
        for one in sockets:
            one.close()
        self.client, self.peer = (f"http://127.0.0.1:{port}" for port in ports)
        self.name = self.client.replace("http", "etcd")
        self.process = None

    def start(self):
        log = open(f"{WORK}/views-etcd.log", "ab")
        self.process = subprocess.Popen(
            ["etcd", "--data-dir", f"{WORK}/views-etcd", "--listen-client-urls", self.client, "--advertise-client-urls", self.client, "--listen-peer-urls",
             self.peer, "--initial-advertise-peer-urls", self.peer, "--initial-cluster", f"default={self.peer}", "--unsafe-no-fsync"],
            stdin=subprocess.DEVNULL, stdout=log, stderr=log)
        log.close()
        wait_until("etcd is healthy", 30, lambda: self.control("endpoint", "health").code == 0, pause=0.05)

    def control(self, *words, **options):
        return run("etcdctl", "--endpoints", self.client, *words, environment={"ETCDCTL_API": "3"}, **options)

    def stop(self):
        if self.process:
            self.process.kill()
            self.process.wait()
            self.process = None


def watch():
    """Every change with its event, through an etcd that is killed, comes back, and has changed meanwhile."""
    etcd = Etcd()
    place = {**PLACE, "MARGAY_DATASTORE": etcd.name}
    def change(*words, **options):
        return margay(*words, environment=place, check=True, **options)
    def netset(name, color, net="192.0.2.0/24"):
        change("apply", "-f", "-", input=f"{HEAD}kind: GlobalNetworkSet\nmetadata: {{name: {name}, labels: {{color: {color}}}}}\nspec: {{nets: [{net}]}}\n")
    watchers = []
    try:
        etcd.start()
        netset("a", "blue")
        table = Background(MARGAY, "get", "gns", "-w", environment=place)
        blue = Background(MARGAY, "get", "gns", "-l", "color=blue", "--watch-only", "-o", "json", environment=place)
        stream = Background(MARGAY, "get", "gns", "-w", "-o", "yaml", "--export", environment=place)
        watchers = [table, blue, stream]
        table.wait_for("ADDED  a", 20)
        stream.wait_for("type: ADDED", 20)
        # There is no saying when a watcher that prints nothing has begun, so it is told things until it says one.
        number = iter(range(1000))
        def nudge():
            netset("n", "blue", f"10.0.{next(number)}.0/24")
            return "\"name\":\"n\"" in blue.text
        wait_until("the watch of changes alone has begun", 20, nudge, pause=0.1)
        expect('"name":"a"' not in blue.text, "nothing of what was there before", blue.text)
        netset("b", "blue")
        netset("b", "red")
        change("delete", "gns", "a")
        table.wait_for("DELETED   a")
        lines = wait_until(lambda: f"b came and went, a went: {blue.text}", 10, lambda: [json.loads(l) for l in blue.lines if '"DELETED"' in l and '"name":"a"' in l] and blue.lines)
        events = [(e["type"], e["object"]["metadata"]["name"]) for e in map(json.loads, lines) if e["object"]["metadata"]["name"] != "n"]
        expect_equal(events, [("ADDED", "b"), ("DELETED", "b"), ("DELETED", "a")], "events of the labels asked for")
        etcd.stop()
        table.wait_for("the watch goes on when it answers", 30)
        expect(all(one.process.poll() is None for one in watchers), "watchers to survive the outage", [one.text[-300:] for one in watchers])
        etcd.start()
        for key in etcd.control("get", "--prefix", f"{ROOT}/globalnetworksets/", "--keys-only", check=True).split():
            etcd.control("del", key, check=True)
        netset("c", "blue")
        table.wait_for("answers again", 30)
        for said in ("DELETED   b", "ADDED     c"):
            table.wait_for(said, 30)
        stream.wait_for("name: c", 30)
        expect_equal(table.text.count("EVENT"), 1, "lines of headings in an hour of watching")
        expect("uid" not in stream.text, "--export in the stream", stream.text)
        # A reader that has seen enough ends the watch.
        started = time.monotonic()
        output = subprocess.run(["bash", "-c", f"timeout 20 {MARGAY} get gns -w | head -1"], env={**os.environ, **place}, capture_output=True, text=True, timeout=30)
        expect("EVENT" in output.stdout and time.monotonic() - started < 15, "the first line, and then the end", output)
    finally:
        for one in watchers:
            one.end()
        etcd.stop()


# Terminals and shells


class Terminal:
    """A program on a terminal of its own, so many columns wide."""

    def __init__(self, *words, columns=200, environment={}, directory=WORK):
        self.pid, self.descriptor = pty.fork()
        if self.pid == 0:
            try:
                os.chdir(directory)
                fcntl.ioctl(0, termios.TIOCSWINSZ, struct.pack("HHHH", 50, columns, 0, 0))
                os.execvpe(words[0], words, {**os.environ, **PLACE, "TERM": "xterm", **environment})
            finally:
                os._exit(127)
        self.text = ""

    def read(self, seconds):
        ready, _, _ = select.select([self.descriptor], [], [], seconds)
        if not ready:
            return False
        try:
            octets = os.read(self.descriptor, 65536)
        except OSError:
            return False
        self.text += octets.decode(errors="replace")
        return bool(octets)

    def wait_for(self, pattern, seconds=15):
        deadline = time.monotonic() + seconds
        while not re.search(pattern, self.text):
            left = deadline - time.monotonic()
            if left <= 0:
                raise Claim(f"waited {seconds} s in vain for /{pattern}/; the terminal shows {self.text[-600:]!r}")
            self.read(min(left, 0.5))

    def end_of_text(self):
        while self.read(20):
            pass
        return self.text

    def send(self, text):
        os.write(self.descriptor, text.encode())

    def end(self):
        try:
            os.kill(self.pid, signal.SIGKILL)
        except ProcessLookupError:
            pass
        os.waitpid(self.pid, 0)
        os.close(self.descriptor)


def terminals():
    """Colour and width are a terminal's; a pipe gets whole cells without colour."""
    def shown(*words, **options):
        terminal = Terminal(MARGAY, *words, **options)
        try:
            return terminal.end_of_text()
        finally:
            terminal.end()
    wide = shown("get", "gns", columns=60)
    expect("\x1b[1m" in wide and "…" in wide, "bold headings and cut cells on a terminal", wide)
    expect(all(len(re.sub(r"\x1b\[[0-9;]*m", "", line)) <= 60 for line in wide.splitlines()), "no line wider than the terminal", wide)
    expect("\x1b" not in shown("get", "gns", environment={"NO_COLOR": "1"}), "no colour with NO_COLOR")
    expect("\x1b" not in shown("get", "gns", "--color", "never"), "no colour with --color never")
    piped = margay("get", "gns", check=True)
    expect("\x1b" not in piped and "…" not in piped and "192.0.2.39/32" in piped, "a pipe gets everything, plain", piped)
    expect("\x1b[1m" in margay("get", "gns", "--color", "always", check=True), "colour in a pipe when it is asked for")


SHELLS = {
    # how it starts, what it is told first, and what ends the line again
    "bash": (["bash", "--norc", "--noprofile", "-i"], ["source <(margay completion bash)"]),
    "zsh": (["zsh", "-f", "-i"], ["fpath=({completions} $fpath); autoload -U compinit; compinit -u -D"]),
    "fish": (["fish", "--no-config", "-i"], ["source {completions}/margay.fish"]),
}


def completes(shell):
    """Tab behind commands, options, kinds and names, in the shell itself."""
    start, preparation = SHELLS[shell]
    completions = f"{WORK}/completions"
    os.makedirs(completions, exist_ok=True)
    for name, file in (("zsh", "_margay"), ("fish", "margay.fish"), ("bash", "margay")):
        with open(f"{completions}/{file}", "w") as script:
            script.write(margay("completion", name, check=True))
    terminal = Terminal(*start, environment={"PATH": f"{BUILD}:{os.environ['PATH']}", "PS1": "ready> ", "HOME": completions})
    try:
        for line in preparation:
            terminal.send(line.format(completions=completions) + "\n")
        terminal.send("echo be''gin\n")
        terminal.wait_for("begin")
        for typed, expected in (
            ("margay comp\t", r"completion"), ("margay get tie\t", r"get tiers"), ("margay get ippools bl\t", r"ippools blue"),
            ("margay get np -n shop web-1\t", r"web-10"), ("margay get np --show-l\t", r"--show-labels"), ("margay get np/web\t", r"np/web-1"),
            (f"margay get pools --datastore sqlite:{STORE} b\t", rf"{os.path.basename(STORE)} blue"),
        ):
            terminal.text = ""
            terminal.send(typed)
            terminal.wait_for(expected)
            # Ctrl-U takes the line away; Ctrl-C would take what is typed behind it along.
            terminal.send("\x15echo ne''xt\n")
            terminal.wait_for("next")
    finally:
        terminal.end()


def completion_is_quick():
    """A datastore that does not answer costs half a second, and one that is not there is not made."""
    started = time.monotonic()
    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))
        silent.listen(1)
        output = margay("---completion", "get", "--", "positional@0", "3", "0", "margay", "get", "pools", "", environment={
            "MARGAY_DATASTORE": f"etcd://127.0.0.1:{silent.getsockname()[1]}"})
    seconds = time.monotonic() - started
    expect(seconds < 3, "an answer soon", f"{seconds:.1f} s: {output}")
    return f"{seconds:.2f} s"


def manual():
    """A page for each command, without a warning of mandoc's."""
    pages = f"{WORK}/man"
    margay("manual", pages, check=True)
    names = sorted(os.listdir(pages))
    expect({"margay.1", "margay-get.1", "margay-node-status.1"} <= set(names), "a page for each command", names)
    for name in names:
        # Pages refer to each other, and these are not installed.
        output = run("mandoc", "-T", "lint", "-W", "warning", f"{pages}/{name}")
        expect(output.code == 0 and not output, f"nothing for mandoc to say of {name}", output)
    shown = run("man", "-l", f"{pages}/margay-get.1", environment={"MANPAGER": "cat", "MANWIDTH": "100", "TERM": "dumb"}, check=True)
    expect("--sort-by" in shown and "NAME" in shown, "a page that `man -l` shows", shown[:400])
    return f"{len(names)} pages"


def configuration():
    """calicoctl's file: named, in its usual place, and before Calico's variables."""
    path = f"{WORK}/calicoctl.cfg"
    with open(path, "w") as file:
        file.write(f"{HEAD}kind: CalicoAPIConfig\nmetadata:\nspec:\n  datastoreType: etcdv3\n  etcdEndpoints: http://127.0.0.1:1\n  etcdUsername: u\n  etcdPassword: geheim\n")
    output = margay("config", "show", "--config", path, "-o", "json", environment={"MARGAY_DATASTORE": "etcd://other:1"}, check=True)
    expect_equal({k: v for k, v in json.loads(output).items() if k in ("datastore", "by", "user")},
                 {"datastore": "etcd://127.0.0.1:1", "by": f"--config {path}", "user": "u"}, "the choice")
    expect("geheim" not in output + margay("config", "-c", path), "no password", output)
    output = margay("get", "tiers", "-c", path)
    expect(output.code == 2 and "127.0.0.1:1" in output, "the datastore of the file to be asked", f"{output.code}: {output}")
    # In a mount namespace of its own, the file stands in its usual place.
    made = not os.path.isdir("/etc/calico")
    os.makedirs("/etc/calico", exist_ok=True)
    try:
        script = f"mount -t tmpfs none /etc/calico && cp {path} /etc/calico/calicoctl.cfg && exec {MARGAY} config show"
        for environment, by in (({"MARGAY_DATASTORE": "", "ETCD_ENDPOINTS": "http://other:1"}, "/etc/calico/calicoctl.cfg"), ({}, "MARGAY_DATASTORE")):
            output = run("unshare", "-m", "--propagation", "private", "sh", "-c", script, environment={**PLACE, **environment}, check=True)
            expect(f"Named by:   {by}" in re.sub(" +", " ", output).replace("Named by: ", "Named by:   "), f"{by} to decide", output)
    finally:
        if made:
            os.rmdir("/etc/calico")
    version = json.loads(margay("version", "-o", "json", check=True))
    expect(version["clientVersion"] and version["datastore"] == f"sqlite:{STORE}", "the client's version and the datastore", version)


def checksystem():
    """Everything is tried for real, changes nothing of the host, and what a user may not try is said to be unknown."""
    def picture():
        return run("ip", "-o", "link"), run("nft", "list", "tables"), run("ip", "netns", "list")
    before = picture()
    output = margay("node", "checksystem", "-o", "json")
    document = json.loads(output)
    results = {check["name"]: check["result"] for check in document["checks"]}
    expect(output.code == 0 and document["ok"], "this host to do", output)
    for name in ("nftables", "rtnetlink", "network namespaces", "veth", "connection tracking"):
        expect_equal(results.get(name), "ok", name)
    expect(re.search(r"\d+ chains, \d+ rules", output), "our own table to have been loaded", output)
    expect_equal(picture(), before, "links, tables and namespaces afterwards")
    # Where a kernel feature is missing: here, no namespace may be made.
    output = run("setpriv", "--bounding-set=-sys_admin", "--inh-caps=-sys_admin", MARGAY, "node", "checksystem")
    expect(re.search(r"network namespaces +unknown", output) and "could not" in output and "can be a node" not in output, "no verdict on what was not tried", output)
    output = run("unshare", "-m", "--propagation", "private", "sh", "-c", f"mount -o bind,ro /proc/sys /proc/sys && exec {MARGAY} node checksystem")
    forwarding = open("/proc/sys/net/ipv4/ip_forward").read().strip()
    expect(forwarding == "1" or (output.code == 1 and re.search(r"IPv4 forwarding +missing.*cannot be written", output)), "exit code 1 and why", f"{output.code}: {output}")
    return f"{len(results)} checks"


def diags():
    """One archive, for its maker alone, without secrets, that says what it lacks."""
    place = f"{WORK}/diags"
    os.makedirs(place, exist_ok=True)
    secret = f"{HEAD}kind: BGPConfiguration\nmetadata: {{name: default, annotations: {{example.org/token: geheim}}}}\nspec: {{asNumber: 64512}}\n"
    margay("apply", "-f", "-", input=secret, check=True)
    try:
        output = margay("node", "diags", "--directory", place, environment={"ETCD_PASSWORD": "geheim", "ETCD_USERNAME": "u"}, check=True)
    finally:
        margay("delete", "bgpconfig", "default", check=True)
    path = output.split()[-1]
    expect_equal(os.stat(path).st_mode & 0o777, 0o600, "the archive's mode")
    with tarfile.open(path, "r:gz") as archive:
        contents = {member.name.split("/", 1)[1]: archive.extractfile(member).read().decode(errors="replace") for member in archive.getmembers()}
    expect({"SUMMARY.txt", "host.txt", "links.txt", "routes.txt", "neighbours.txt", "sysctls.txt", "ip-rule.txt", "checksystem.json", "resources-networkpolicies.yaml"}
           <= set(contents), "what a reader needs", sorted(contents))
    expect(not any("geheim" in content for content in contents.values()), "no secret anywhere", [name for name, content in contents.items() if "geheim" in content])
    summary = contents["SUMMARY.txt"]
    expect("ETCD_PASSWORD" in summary and "bgpconfigurations/default: metadata.annotations" in summary, "each omission in the summary", summary)
    expect("status-felix.json: nobody answers" in summary, "what there was not", summary)
    expect("ip_forward = " in contents["sysctls.txt"] and "web-10" in contents["resources-networkpolicies.yaml"], "contents", contents["sysctls.txt"][:200])
    # A user without rights gets what such a user may read.
    public = f"{WORK}/public-views"
    os.makedirs(public, exist_ok=True)
    os.chmod(WORK, 0o755)
    shutil.copy(MARGAY, f"{public}/margay")
    os.chmod(public, 0o777)
    output = run("setpriv", "--reuid", "65534", "--regid", "65534", "--clear-groups", f"{public}/margay", "node", "diags", "--directory", public,
                 environment={**PLACE, "MARGAY_DATASTORE": ""}, check=True)
    expect("links.txt" in output and "Not collected:" in output and "no datastore is named" in output, "a user's archive", output)
    return f"{len(contents)} files"
