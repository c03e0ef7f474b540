"""The verbs that write, on SQLite and on a real etcd that is looked at with etcdctl."""

import json
import os
import pty
import re
import select
import socket
import subprocess
import threading
import time

from claims import expect, expect_equal, wait_until
from labs import MARGAY, WORK, run

ROOT = "/calico/resources/v3/projectcalico.org"
STATE = f"{WORK}/verbs"
HEAD = "apiVersion: projectcalico.org/v3\n"
TIER = HEAD + "kind: Tier\nmetadata: {name: early}\nspec: {order: 10}\n"
POLICY = HEAD + "kind: NetworkPolicy\nmetadata: {name: web, namespace: shop}\nspec: {tier: early, selector: app == 'web', ingress: [{action: Allow}]}\n"
# What a newer Calico might have stored: fields that margay does not know, at every level.
FUTURE = {
    "apiVersion": "projectcalico.org/v3", "kind": "NetworkPolicy", "aboveAll": {"x": 1},
    "metadata": {"name": "web", "namespace": "shop", "labels": {"team": "a"}, "finalizers": ["keep/me"], "inMetadata": [1]},
    "spec": {
        "tier": "default", "order": 5, "selector": "app == 'web'", "types": ["Ingress"], "inSpec": {"deep": [1, {"y": 2}]},
        "ingress": [{"action": "Allow", "protocol": "TCP", "inRule": True, "source": {"nets": ["10.0.0.0/8"], "inEntity": "e"}},
                    {"action": "Log", "inSecond": 18446744073709551615}]},
    "status": {"inStatus": "s"}}
KEY = f"{ROOT}/networkpolicies/shop/web"


class Stores:
    """A SQLite file, and an etcd on loopback ports of its own with its data in memory."""

    def __init__(self):
        os.makedirs(STATE, exist_ok=True)
        self.sqlite = f"sqlite:{STATE}/verbs.sqlite"
        self.process = None

    def start(self):
        ports = []
        for _ in range(2):
            with socket.socket() as probe:
                probe.bind(("127.0.0.1", 0))
                ports.append(probe.getsockname()[1])
        self.endpoint = f"127.0.0.1:{ports[0]}"
        self.etcd = f"etcd://{self.endpoint}"
        with open(f"{STATE}/etcd.log", "ab") as log:
            self.process = subprocess.Popen(
                ["etcd", "--data-dir", f"/dev/shm/margay-{os.getpid()}-{ports[0]}", "--unsafe-no-fsync",
                 "--listen-client-urls", f"http://{self.endpoint}", "--advertise-client-urls", f"http://{self.endpoint}",
                 "--listen-peer-urls", f"http://127.0.0.1:{ports[1]}", "--initial-advertise-peer-urls", f"http://127.0.0.1:{ports[1]}",
                 "--initial-cluster", f"default=http://127.0.0.1:{ports[1]}"], stdin=subprocess.DEVNULL, stdout=log, stderr=log)
        self.data = f"/dev/shm/margay-{os.getpid()}-{ports[0]}"
        wait_until("etcd is healthy", 30, lambda: self.control("endpoint", "health").code == 0, pause=0.05)

    def control(self, *words, **options):
        return run("etcdctl", "--endpoints", self.endpoint, *words, environment={"ETCDCTL_API": "3"}, **options)

    def keys(self):
        return [line for line in self.control("get", "--prefix", "/", "--keys-only", check=True).splitlines() if line]

    def value(self, key):
        return json.loads(self.control("get", "--print-value-only", key, check=True))

    def revision(self):
        return json.loads(self.control("get", "/", "-w", "json", check=True))["header"]["revision"]

    def clear(self):
        self.control("del", "--prefix", "/", check=True)

    def down(self):
        if self.process:
            self.process.kill()
            self.process.wait()
            run("rm", "-rf", self.data)


def verb(store, *words, code=0, input=None, environment=None):
    """Both streams of a command that must end with this exit code."""
    output = run(MARGAY, *words, "--datastore", store, input=input, environment=environment)
    expect_equal(output.code, code, f"exit code of `margay {' '.join(map(str, words))}` (it said: {output})")
    return output


def separate(*words, input=None, environment=None):
    """Standard output, standard error, exit code."""
    done = subprocess.run(
        [MARGAY, *map(str, words)], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, input=input, timeout=60,
        env={**os.environ, **(environment or {})})
    return done.stdout, done.stderr, done.returncode


def write(name, text):
    path = f"{STATE}/{name}"
    os.makedirs(os.path.dirname(path), exist_ok=True)
    with open(path, "w") as file:
        file.write(text)
    return path


def on_both(stores):
    """create, apply, replace, patch, label, delete and their refusals: the same words on both stores, and etcdctl sees each step."""
    seen = {}
    for store in (stores.sqlite, stores.etcd):
        isEtcd = store == stores.etcd
        lines = []

        def step(*words, code=0, input=None, key=None, holds=None):
            output = verb(store, *words, code=code, input=input)
            lines.append(re.sub(r"^margay: made a new.*\n", "", output))
            if isEtcd and holds:
                expect(holds(stores), f"etcdctl to see it after `margay {' '.join(words)}`", stores.control("get", "--prefix", "/"))

        tier = f"{ROOT}/tiers/early"
        step("create", "-f", "-", input=TIER, holds=lambda s: s.value(tier)["spec"] == {"order": 10})
        step("create", "-f", "-", input=TIER, code=1)
        step("create", "-f", "-", "--skip-exists", input=TIER)
        step("apply", "-f", "-", input=POLICY, holds=lambda s: s.value(KEY)["spec"]["tier"] == "early")
        step("apply", "-f", "-", input=POLICY)
        step("replace", "-f", "-", input=TIER.replace("10", "20"), holds=lambda s: s.value(tier)["spec"]["order"] == 20)
        step("replace", "-f", "-", input=TIER.replace("early", "none"), code=1)
        step("replace", "-f", "-", "--skip-not-exists", input=TIER.replace("early", "none"))
        step("patch", "tier", "early", "-p", '{"spec": {"order": 30}}', holds=lambda s: s.value(tier)["spec"]["order"] == 30)
        step("patch", "tier", "early", "-t", "merge", "-p", "spec: {order: 40}", holds=lambda s: s.value(tier)["spec"]["order"] == 40)
        operations = '[{"op": "test", "path": "/spec/order", "value": 40}, {"op": "replace", "path": "/spec/order", "value": 50}]'
        step("patch", "tier", "early", "--type", "json", "-p", operations, holds=lambda s: s.value(tier)["spec"]["order"] == 50)
        step("patch", "tier", "early", "--type", "json", "-p", operations, code=1)
        step("patch", "tier", "early", "-p", '{"spec": {"order": "x"}}', code=1, holds=lambda s: s.value(tier)["spec"]["order"] == 50)
        step("label", "np", "web", "a=1", "b=2", "-n", "shop", holds=lambda s: s.value(KEY)["metadata"]["labels"] == {"a": "1", "b": "2"})
        step("label", "np", "web", "a=2", "-n", "shop", code=1)
        step("label", "np", "web", "a=2", "-n", "shop", "--overwrite", holds=lambda s: s.value(KEY)["metadata"]["labels"]["a"] == "2")
        step("label", "np", "web", "b", "-n", "shop", "--remove", holds=lambda s: s.value(KEY)["metadata"]["labels"] == {"a": "2"})
        step("label", "np", "-l", "a=2", "-A", "c=3", holds=lambda s: s.value(KEY)["metadata"]["labels"] == {"a": "2", "c": "3"})
        step("delete", "tier", "early", code=1, holds=lambda s: tier in s.keys())
        step("delete", "np", "-l", "a == 'other'", "-n", "shop", holds=lambda s: KEY in s.keys())
        step("delete", "np", "--all", "-n", "shop", holds=lambda s: KEY not in s.keys())
        step("delete", "-f", "-", input=TIER, holds=lambda s: tier not in s.keys())
        step("delete", "tier", "early", code=1)
        step("delete", "tier", "early", "--skip-not-exists")
        seen[store] = lines
    expect_equal(seen[stores.sqlite], seen[stores.etcd], "the same words on SQLite and etcd")
    return f"{len(seen[stores.etcd])} steps"


def unknown_fields(stores):
    """Each verb on an object that a newer Calico wrote: nothing of it is lost, as etcdctl sees it."""
    changed = {
        "apiVersion": "projectcalico.org/v3", "kind": "NetworkPolicy", "metadata": {"name": "web", "namespace": "shop", "labels": {"team": "a"}},
        "spec": {"selector": "app == 'web'", "order": 6, "ingress": [
            {"action": "Allow", "protocol": "TCP", "source": {"nets": ["10.0.0.0/8"]}}, {"action": "Log"}]}}
    editor = write("editor.sh", "sed -i 's/order: 5/order: 6/' \"$1\"\n")
    verbs = {
        "apply": (["apply", "-f", "-"], json.dumps(changed)), "replace": (["replace", "-f", "-"], json.dumps(changed)),
        "patch strategic": (["patch", "np", "web", "-n", "shop", "-p", '{"spec": {"order": 6}}'], None),
        "patch merge": (["patch", "np", "web", "-n", "shop", "-t", "merge", "-p", '{"spec": {"order": 6}}'], None),
        "patch json": (["patch", "np", "web", "-n", "shop", "-t", "json", "-p", '[{"op": "replace", "path": "/spec/order", "value": 6}]'], None),
        "label": (["label", "np", "web", "-n", "shop", "new=label"], None), "edit": (["edit", "np", "web", "-n", "shop"], None),
    }
    for name, (words, input) in verbs.items():
        stores.control("put", KEY, json.dumps(FUTURE), check=True)
        output = verb(stores.etcd, *words, input=input, environment={"VISUAL": f"sh {editor}"})
        stored = stores.value(KEY)
        expect("updated" in output, f"an update by {name}", output)
        if name == "label":
            expect_equal(stored["metadata"].pop("labels"), {"team": "a", "new": "label"}, "labels")
            stored["metadata"]["labels"] = {"team": "a"}
        else:
            expect_equal(stored["spec"].pop("order"), 6, f"the order after {name}")
            stored["spec"]["order"] = 5
        expect(stored["metadata"].pop("uid", None), "a uid", stored)
        expect_equal(stored, FUTURE, f"the object after {name}")
    # A copy of what is stored passes; a new unknown field does not.
    shown = verb(stores.etcd, "get", "np", "web", "-n", "shop", "-o", "yaml")
    output = verb(stores.etcd, "apply", "-f", "-", input=shown)
    expect("unchanged" in output, "what get prints to be no change", output)
    output = verb(stores.etcd, "apply", "-f", "-", input=shown.replace("inSpec", "inSpecs"), code=1)
    expect(re.search(r"standard input:\d+:\d+: spec\.inSpecs", output), "a new unknown field to be refused in its place", output)
    stores.clear()
    return f"{len(verbs)} verbs"


def files(stores):
    """Files, directories, lists, standard input; all of it judged before the first write."""
    place = f"{STATE}/files"
    write("files/b.yaml", POLICY)
    write("files/a.yml", TIER)
    write("files/c.json", json.dumps({"apiVersion": "v1", "kind": "List", "items": [
        {"apiVersion": "projectcalico.org/v3", "kind": "NetworkSet", "metadata": {"name": "one"}, "spec": {"nets": ["192.0.2.0/24"]}}]}))
    write("files/README.md", "no document")
    write("files/below/d.yaml", HEAD + "kind: IPPoolList\nitems:\n- " + "\n  ".join((HEAD + "kind: IPPool\nmetadata: {name: p}\nspec: {cidr: 10.9.0.0/16}").splitlines()) + "\n")
    output = verb(stores.etcd, "apply", "-f", place, "-n", "own")
    expect_equal(output.splitlines(), ["Tier early created", "NetworkSet own/one created", "NetworkPolicy shop/web created"], "the order of writing")
    output = verb(stores.etcd, "apply", "-R", "-f", place, "-n", "own", "-f", "-", input=TIER.replace("early", "late"))
    expect_equal([line.rsplit(" ", 1) for line in output.splitlines()], [
        ["Tier early", "unchanged"], ["Tier late", "created"], ["IPPool p", "created"], ["NetworkSet own/one", "unchanged"],
        ["NetworkPolicy shop/web", "unchanged"]], "the whole directory and standard input")
    expect(f"{ROOT}/ippools/p" in stores.keys(), "the pool", stores.keys())
    # One mistake anywhere, and nothing is written.
    revision = stores.revision()
    write("files/z.yaml", TIER.replace("early", "third") + "---\n" + TIER.replace("order: 10", "ordre: 10"))
    write("files/y.yaml", HEAD + "kind: Tier\nmetadata: {name: a b}\n")
    output = verb(stores.etcd, "apply", "-f", place, code=1)
    expect(f"{place}/y.yaml:3" in output and f"{place}/z.yaml:9" in output and "2 errors; nothing was changed" in output, "both mistakes", output)
    expect_equal(stores.revision(), revision, "the revision of etcd after a refused apply")
    empty = write("files/empty.yaml", "# nothing here\n")
    expect("--skip-empty" in verb(stores.etcd, "apply", "-f", empty, code=1), "an empty file to be a mistake")
    verb(stores.etcd, "apply", "-f", empty, "--skip-empty")
    for name in ("y.yaml", "z.yaml"):
        os.unlink(f"{place}/{name}")
    output = verb(stores.etcd, "delete", "-R", "-f", place, "-n", "own", "--skip-empty")
    expect_equal([line.split()[0] for line in output.splitlines()], ["NetworkPolicy", "NetworkSet", "IPPool", "Tier"], "the order of deleting")
    stores.clear()


def rehearsal(stores):
    """--dry-run and diff: the rules that look at other objects hold, diff's words are what patch(1) understands, and etcd's revision stays."""
    verb(stores.etcd, "apply", "-f", "-", input=HEAD + "kind: IPPool\nmetadata: {name: p}\nspec: {cidr: 10.9.0.0/16}\n")
    revision = stores.revision()
    both = POLICY + "---\n" + TIER
    output = verb(stores.etcd, "apply", "-f", "-", "--dry-run", input=both)
    expect_equal(output.splitlines(), ["Tier early created (dry run)", "NetworkPolicy shop/web created (dry run)"], "a rehearsal")
    output = verb(stores.etcd, "apply", "-f", "-", "--dry-run", input=POLICY, code=1)
    expect("early" in output and "does not exist" in output, "the missing tier", output)
    overlap = HEAD + "kind: IPPool\nmetadata: {name: q}\nspec: {cidr: 10.9.1.0/24}\n"
    expect("overlaps" in verb(stores.etcd, "create", "-f", "-", "--dry-run", input=overlap, code=1), "the overlap to be found")
    verb(stores.etcd, "delete", "ippool", "p", "--dry-run")
    verb(stores.etcd, "label", "ippool", "p", "a=b", "--dry-run")
    verb(stores.etcd, "patch", "ippool", "p", "-p", '{"spec": {"disabled": true}}', "--dry-run")
    expect_equal(stores.revision(), revision, "etcd's revision after rehearsals")

    verb(stores.etcd, "apply", "-f", "-", input=both)
    revision = stores.revision()
    output = verb(stores.etcd, "diff", "-f", "-", input=both)
    expect_equal(output.splitlines(), ["Tier early unchanged", "NetworkPolicy shop/web unchanged"], "no difference")
    changed = POLICY.replace("[{action: Allow}]", "[{action: Pass}, {action: Deny}]")
    output = verb(stores.etcd, "diff", "-f", "-", input=changed, code=1)
    expect("\x1b[" not in output, "no colour in a pipe", output)
    expect_equal(stores.revision(), revision, "etcd's revision after diff")
    verb(stores.etcd, "diff", "-f", "-", input="kind: Tier\n", code=2)
    # The difference, given to patch(1), makes of the stored text what apply then stores.
    def text():
        shown = verb(stores.etcd, "get", "np", "web", "-n", "shop", "-o", "yaml")
        return "".join(line + "\n" for line in shown.splitlines() if "resourceVersion" not in line)
    path = write("stored.yaml", text())
    patch = write("stored.patch", output.split("\n", 1)[1])
    run("patch", "--fuzz=0", path, patch, check=True)
    verb(stores.etcd, "apply", "-f", "-", input=changed)
    expect_equal(open(path).read(), text(), "what patch(1) makes of the difference")
    stores.clear()


def answers(stores):
    """-o json, yaml, name; exit codes; words of calicoctl that mean nothing here."""
    bad = write("bad.yaml", HEAD + "kind: GlobalNetworkPolicy\nmetadata: {name: p}\nspec:\n  ingress:\n    - action: Permit\n      source: {nets: [10.1.2.3/8]}\n")
    for words in (["validate"], ["apply", "--datastore", stores.etcd], ["create", "--datastore", stores.etcd], ["diff", "--datastore", stores.etcd]):
        out, err, code = separate(*words, "-f", bad, "-o", "json")
        expect_equal((code, err), (2 if words[0] == "diff" else 1, ""), f"exit code and standard error of {words[0]} -o json")
        errors = json.loads(out)["errors"]
        expect_equal(
            [(e["file"], e["line"], e["path"], e["value"]) for e in errors],
            [(bad, 6, "spec.ingress[0].action", "Permit"), (bad, 7, "spec.ingress[0].source.nets[0]", "10.1.2.3/8")], "the errors")
        expect_equal(errors[1]["fix"], "write 10.0.0.0/8", "the fix")
    out, err, code = separate("validate", "-f", "-", input=TIER + "---\n" + POLICY)
    expect_equal((out, err, code), ("2 documents valid\n", "", 0), "two valid documents")
    # Partial failure: each object is named, the others are written.
    both = POLICY.replace("early", "missing") + "---\n" + TIER
    out, err, code = separate("apply", "-f", "-", "-o", "json", "--datastore", stores.etcd, input=both)
    report = json.loads(out)
    expect_equal(
        [(o["kind"], o["outcome"], o.get("error", {}).get("reason")) for o in report["objects"]],
        [("Tier", "created", None), ("NetworkPolicy", "failed", "refused")], "the objects")
    expect_equal((code, report["exitCode"], err), (1, 1, ""), "exit codes and standard error")
    out, err, code = separate("apply", "-f", "-", "--datastore", stores.etcd, input=both)
    expect(code == 1 and out == "Tier early unchanged\n" and err.startswith("NetworkPolicy shop/web: "), "each object to be named", (out, err, code))
    expect_equal(separate("apply", "-f", "-", "-o", "name", "--datastore", stores.etcd, input=TIER)[0], "tier/early\n", "-o name")
    out, _, _ = separate("patch", "tier", "early", "-p", '{"spec": {"order": 7}}', "-o", "yaml", "--datastore", stores.etcd)
    expect("order: 7" in out and f'resourceVersion: "{stores.revision()}"' in out, "-o yaml to be the object as stored", out)
    for words, code in (
        (["apply", "-f", bad, "--context", "x"], 64), (["apply"], 64), (["apply", "-f", bad, "--bogus"], 64), (["delete", "pods", "x"], 64),
        (["patch", "tier", "early", "-p", "[1]"], 64), (["patch", "tier", "early"], 64), (["label", "tier", "early", "nonsense"], 64), (["delete"], 64),
        (["delete", "tier", "--all", "-l", "a=b"], 64), (["replace", "-f", "-", "--datastore", "mongodb://x"], 64),
        (["apply", "-f", "-", "--datastore", "etcd://127.0.0.1:1"], 2), (["delete", "tier", "x", "--datastore", "etcd://127.0.0.1:1"], 2),
        (["label", "tier", "--all", "a=b", "--datastore", "etcd://127.0.0.1:1"], 2), (["diff", "-f", "-", "--datastore", "etcd://127.0.0.1:1"], 2),
        (["edit", "tier", "x", "--datastore", "etcd://127.0.0.1:1"], 2), (["edit", "tier", "x"], 1),
        (["apply", "-f", "-", "--allow-version-mismatch"], 0),
    ):
        place = [] if "--datastore" in words else ["--datastore", stores.etcd]
        out, err, seen = separate(*words, *place, input=TIER)
        expect_equal(seen, code, f"exit code of `margay {' '.join(words)}` ({out}{err})")
        expect(code == 0 or err, "a word about it on standard error", words)
    stores.clear()


def goes_along(stores):
    """What a name alone does not say: a pool in use is refused and stays as it was; references that lead nowhere are warned of."""
    pool, block = f"{ROOT}/ippools/p", "/calico/ipam/v2/assignment/ipv4/block/10.9.0.0-26"
    verb(stores.etcd, "apply", "-f", "-", input=HEAD + "kind: IPPool\nmetadata: {name: p}\nspec: {cidr: 10.9.0.0/16}\n")
    stores.control("put", block, json.dumps({
        "cidr": "10.9.0.0/26", "affinity": "host:n", "allocations": [0] + [None] * 63, "unallocated": list(range(1, 64)),
        "attributes": [{"handle_id": "h", "secondary": {"node": "n"}}], "deleted": False, "sequenceNumber": 1}), check=True)
    output = verb(stores.etcd, "delete", "ippool", "p", code=1)
    expect("10.9.0.0" in output and "--force" in output, "the address in use and what to do", output)
    expect(not stores.value(pool)["spec"].get("disabled"), "the pool as it was", stores.value(pool))
    verb(stores.etcd, "delete", "ippool", "p", "--force")
    expect(pool not in stores.keys() and not stores.value(block).get("affinity"), "pool gone, block nobody's", stores.keys())
    peer = HEAD + "kind: BGPPeer\nmetadata: {name: tor}\nspec: {peerIP: 192.0.2.1, asNumber: 64500, filters: [nowhere]}\n"
    out, err, code = separate("apply", "-f", "-", "--datastore", stores.etcd, input=peer)
    expect(code == 0 and "BGPPeer tor created" in out and re.search(r"warning: BGPPeer tor: .*nowhere does not exist", err), "a warning", (out, err))
    stores.clear()


def edit(stores):
    """The editor sees the object; mistakes come back as comments; nothing is lost; others' changes stay."""
    verb(stores.etcd, "apply", "-f", "-", input=TIER)
    tier = f"{ROOT}/tiers/early"

    def edited(script, code=0):
        path = write("script.sh", script)
        return verb(stores.etcd, "edit", "tier", "early", code=code, environment={"VISUAL": "", "EDITOR": f"sh {path}", "TMPDIR": STATE})
    def kept():
        return [name for name in os.listdir(STATE) if name.startswith("margay-edit-")]
    expect("nothing is changed" in edited("true\n"), "an editor that changes nothing to change nothing")
    edited("sed -i 's/order: 10/order: 11/' $1\n")
    expect_equal(stores.value(tier)["spec"]["order"], 11, "the order")
    # First a mistake; the second round sees it at the top, and mends it.
    first = f"{STATE}/first"
    edited(f"if [ -e {first} ]; then cp $1 {first}; sed -i 's/order: twelve/order: 12/' $1; else touch {first}; sed -i 's/order: 11/order: twelve/' $1; fi\n")
    seen = open(first).read()
    expect(re.search(r"^#.*spec\.order.*is not a number", seen, re.M) and "\n  order: twelve\n" in seen, "mistake and text in the second round", seen)
    expect_equal(stores.value(tier)["spec"]["order"], 12, "the order after the second round")
    # Another writer meanwhile, elsewhere and at the same place.
    other = f"{MARGAY} patch tier early --datastore {stores.etcd} -p"
    edited(f"{other} '{{\"metadata\": {{\"labels\": {{\"by\": \"other\"}}}}}}' >/dev/null; sed -i 's/order: 12/order: 13/' $1\n")
    stored = stores.value(tier)
    expect_equal((stored["spec"]["order"], stored["metadata"]["labels"]), (13, {"by": "other"}), "both changes")
    clash = f"{STATE}/clash"
    edited(f"if [ -e {clash} ]; then cp $1 {clash}; else touch {clash}; {other} '{{\"spec\": {{\"order\": 99}}}}' >/dev/null; sed -i 's/order: 13/order: 14/' $1; fi\n")
    seen = open(clash).read()
    expect("changed by somebody else" in seen and "+  order: 99" in seen and "\n  order: 14\n" in seen, "the clash in comments", seen)
    expect_equal(stores.value(tier)["spec"]["order"], 14, "the person's decision")
    expect_equal(kept(), [], "files left behind after success")
    # A mistake that stays: the text is kept.
    output = edited("sed -i 's/order: 14/order: twelve/' $1\n", code=1)
    name = re.search(r"kept in (\S+)", output)
    expect(name and "order: twelve" in open(name[1]).read(), "the text in the named file", output)
    os.unlink(name[1])
    output = edited("sed -i 's/order: 14/order: 15/' $1; exit 3\n", code=1)
    expect("exit code 3" in output and re.search(r"kept in (\S+)", output), "an editor that fails to be told, and its text kept", output)
    expect_equal(stores.value(tier)["spec"]["order"], 14, "the order after an editor that failed")
    stores.clear()


def writers(stores):
    """Twenty processes label one object at once: every label is there."""
    verb(stores.etcd, "apply", "-f", "-", input=TIER)
    processes = [
        subprocess.Popen([MARGAY, "label", "tier", "early", f"l{index}=x", "--datastore", stores.etcd], stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
        for index in range(20)]
    for process in processes:
        _, error = process.communicate(timeout=60)
        expect_equal((process.returncode, error), (0, b""), "exit code and standard error of a writer")
    expect_equal(len(stores.value(f"{ROOT}/tiers/early")["metadata"]["labels"]), 20, "labels that etcdctl sees")
    stores.clear()


def terminal(stores):
    """On a terminal: colour in diff, and a bar while more than a second's work is done; NO_COLOR is heeded."""
    verb(stores.etcd, "apply", "-f", "-", input=TIER)
    path = write("colour.yaml", TIER.replace("10", "20"))
    screen = _on_terminal("diff", "-f", path, "--datastore", stores.etcd)
    expect("\x1b[31m-  order: 10\x1b[0m" in screen and "\x1b[32m+  order: 20\x1b[0m" in screen, "red and green", screen)
    screen = _on_terminal("diff", "-f", path, "--datastore", stores.etcd, environment={"NO_COLOR": "1"})
    expect("\x1b[" not in screen, "no colour with NO_COLOR", screen)
    many = write("many.yaml", "---\n".join(TIER.replace("early", f"t{index}").replace("10", str(index)) for index in range(100)))
    with Slow(stores.endpoint, 0.015) as slow:
        screen = _on_terminal("apply", "-f", many, "-o", "json", "--datastore", slow.name)
        expect(re.search(r"█*░+ \d+ %  \d+ of 100 objects", screen), "a bar", screen[:300])
        output = run(MARGAY, "apply", "-f", many, "-o", "name", "--datastore", slow.name, check=True)
        expect("of 100" not in output, "no bar in a pipe")
    stores.clear()


class Slow:
    """A way to the datastore on which every answer takes its time."""

    def __init__(self, target, delay):
        self.target, self.delay = target.split(":"), delay
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.name = f"etcd://127.0.0.1:{self.listener.getsockname()[1]}"

    def __enter__(self):
        threading.Thread(target=self._serve, daemon=True).start()
        return self

    def __exit__(self, *_):
        self.listener.close()

    def _serve(self):
        while True:
            try:
                near = self.listener.accept()[0]
            except OSError:
                return
            far = socket.create_connection((self.target[0], int(self.target[1])))
            for end in (near, far):
                end.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            for source, sink, delay in ((near, far, 0), (far, near, self.delay)):
                threading.Thread(target=self._carry, args=(source, sink, delay), daemon=True).start()

    def _carry(self, source, sink, delay):
        try:
            while piece := source.recv(65536):
                time.sleep(delay)
                sink.sendall(piece)
            sink.shutdown(socket.SHUT_WR)
        except OSError:
            pass


def _on_terminal(*words, environment=None):
    """What a command shows on a terminal."""
    pid, master = pty.fork()
    if pid == 0:
        for name, value in {"TERM": "xterm", **(environment or {})}.items():
            os.environ[name] = value
        os.execv(MARGAY, [MARGAY, *words])
    seen = b""
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        if not select.select([master], [], [], 1)[0]:
            continue
        try:
            piece = os.read(master, 65536)
        except OSError:
            break
        if not piece:
            break
        seen += piece
    os.waitpid(pid, 0)
    os.close(master)
    return seen.decode(errors="replace")
