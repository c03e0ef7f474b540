"""Whole datastores: looked at, kept, moved, on SQLite and on the distribution's etcd; etcdctl and sqlite3 are the witnesses."""

import base64
import hashlib
import json
import os
import re
import sqlite3
import subprocess
import threading
import time

from claims import expect, expect_equal, wait_until
from claims_etcd import NAME, NAMESPACE, Etcd
from labs import MARGAY, WORK, margay, run

ROOT = "/calico/resources/v3/projectcalico.org"
INFORMATION = f"{ROOT}/clusterinformations/default"
MARKER = "/calico/margay/v1/transfer"
PLACE = f"{WORK}/datastores"
_HEAD = "apiVersion: projectcalico.org/v3\n"


def objects(count):
    documents = [_HEAD + "kind: IPPool\nmetadata: {name: pool}\nspec: {cidr: 10.77.0.0/16}\n", _HEAD + "kind: Tier\nmetadata: {name: early}\nspec: {order: 10}\n"]
    for number in range(count):
        documents.append(
            _HEAD + f"kind: NetworkPolicy\nmetadata: {{name: early.p{number}, namespace: shop}}\n"
            f"spec: {{tier: early, selector: app == 'a{number}', ingress: [{{action: Allow, protocol: TCP, destination: {{ports: [80]}}}}]}}\n")
    return "---\n".join(documents)


def sqlite_content(path):
    """Key to value, as another program reads the file; leased keys left out."""
    connection = sqlite3.connect(f"file:{path}?mode=ro", uri=True)
    try:
        return {key: bytes(value) for key, value in connection.execute("SELECT key, value FROM item WHERE lease IS NULL")}
    finally:
        connection.close()


def sound(path):
    expect_equal(run("sqlite3", path, "PRAGMA integrity_check", check=True).strip(), "ok", "sqlite3's integrity check")


class Places:
    """A store in a file, and an etcd that begins empty."""

    def __init__(self):
        os.makedirs(PLACE, exist_ok=True)
        self.path = f"{PLACE}/store.sqlite"
        self.store = f"sqlite:{self.path}"
        self.etcd = Etcd()

    def margay(self, *words, **options):
        return self.etcd.margay(*words, **options)

    def etcd_content(self, leased=False):
        found = json.loads(self.etcd.control("get", "--prefix", "/calico", "-w", "json", check=True)).get("kvs", [])
        return {
            base64.b64decode(item["key"]).decode(): base64.b64decode(item.get("value", "")) for item in found if leased or not item.get("lease")}

    def etcd_revision(self):
        return json.loads(self.etcd.control("endpoint", "status", "-w", "json", check=True))[0]["Status"]["header"]["revision"]

    def put(self, key, value):
        self.etcd.control("put", key, value if isinstance(value, str) else json.dumps(value), check=True)

    def clear(self):
        self.etcd.control("del", "--prefix", "/", check=True)

    def down(self):
        self.etcd.down()


def check_before_the_first_start(places):
    """On an etcd that somebody else filled: effects, exit code, and not one write."""
    places.etcd.start()
    places.clear()
    put = places.put
    put(f"{ROOT}/networkpolicies/shop/broken", {
        "apiVersion": "projectcalico.org/v3", "kind": "NetworkPolicy", "metadata": {"name": "broken", "namespace": "shop"}, "spec": {"selector": "app = 'web'"}})
    put(f"{ROOT}/globalnetworkpolicies/rules", {
        "apiVersion": "projectcalico.org/v3", "kind": "GlobalNetworkPolicy", "metadata": {"name": "rules"},
        "spec": {"types": ["Ingress"], "ingress": [{"action": "Allow"}, {"action": "Allow", "source": {"nets": ["10.0.0.0/99"]}}]}})
    put(f"{ROOT}/ippools/pool", {"apiVersion": "projectcalico.org/v3", "kind": "IPPool", "metadata": {"name": "pool"}, "spec": {"cidr": "ten"}})
    put(f"{ROOT}/workloadendpoints/shop/half", "{")
    put(f"{ROOT}/networkpolicies/shop/lost.p", {
        "apiVersion": "projectcalico.org/v3", "kind": "NetworkPolicy", "metadata": {"name": "lost.p", "namespace": "shop"},
        "spec": {"tier": "lost", "types": ["Ingress"]}})
    put("/calico/nowhere", "x")
    put("/registry/pods/other", "not ours")
    before = places.etcd_revision()
    output = places.margay("datastore", "check", "--datastore", NAME, "-o", "json")
    expect_equal(output.code, 1, "the exit code with findings")
    found = {finding["object"]: finding for finding in json.loads(output)["findings"]}
    for name, pattern in (
        ("NetworkPolicy shop/broken", r"denies every endpoint of namespace shop"), ("GlobalNetworkPolicy rules", r"ingress rule 2 denies everything at its place"),
        ("IPPool pool", r"no address is given"), ("WorkloadEndpoint shop/half", r"gets no traffic"), ("NetworkPolicy shop/lost.p", r"last tier"),
        ("/calico/nowhere", r"nothing reads it")):
        expect(name in found and re.search(pattern, found[name]["effect"]), f"{name} with effect /{pattern}/", found.get(name))
    expect("registry" not in output, "nothing about other programs' keys", output)
    expect_equal(places.etcd_revision(), before, "etcd's revision after the check")
    text = places.margay("datastore", "check", "--datastore", NAME)
    expect("effect:" in text and "10.0.0.0/99" in text, "faults and effects in words", text)
    places.clear()
    margay("apply", "-f", "-", "--datastore", places.store, input=objects(400), check=True)
    output = margay("datastore", "check", "--datastore", places.store)
    expect(output.code == 0 and "nothing to tell" in output, "a sound store to have nothing to tell", output)
    return f"{len(found)} findings"


def backup_and_restore(places):
    """Count and hash of the file are what Python computes from what sqlite3 reads; restored into etcd, etcdctl reads the same."""
    path = f"{PLACE}/backup"
    margay("datastore", "backup", path, "--datastore", places.store, check=True)
    content = sqlite_content(places.path)
    header = json.loads(open(path, "rb").readline())
    digest = hashlib.sha256()
    for key in sorted(content, key=str.encode):
        octets = key.encode()
        digest.update(hashlib.sha256(len(octets).to_bytes(8, "little") + octets + content[key]).digest())
    expect_equal((header["keys"], header["sha256"]), (len(content), digest.hexdigest()), "count and hash in the first line")
    expect_equal(os.stat(path).st_mode & 0o777, 0o600, "the file's mode")
    places.margay("datastore", "restore", path, "--datastore", NAME, check=True)
    expect_equal(places.etcd_content(), content, "what etcdctl reads after the restore")
    output = places.margay("datastore", "restore", path, "--datastore", NAME)
    expect(output.code != 0 and "not empty" in output, "a second restore to be refused", output)
    octets = bytearray(open(path, "rb").read())
    octets[len(octets) // 2] ^= 1
    open(path + ".bad", "wb").write(octets)
    places.clear()
    output = places.margay("datastore", "restore", path + ".bad", "--datastore", NAME)
    expect(output.code != 0 and path + ".bad" in output and not places.etcd_content(), "a damaged backup to be refused, and nothing written", output)
    piped = subprocess.run(
        f"'{MARGAY}' datastore backup - --datastore '{places.store}' 2>/dev/null | gzip | gunzip | '{MARGAY}' datastore restore - --datastore 'sqlite:{PLACE}/piped.sqlite'",
        shell=True, capture_output=True, text=True, timeout=60)
    expect(piped.returncode == 0 and sqlite_content(f"{PLACE}/piped.sqlite") == content, "the same through gzip", piped)
    return f"{header['keys']} keys"


def migrated_while_killed(places):
    """SQLite to etcd, the command killed again and again, somebody writing all the time; then the switch, seen by etcdctl and sqlite3."""
    words = [MARGAY, "datastore", "migrate", "--from", places.store, "--to", NAME]
    stop = threading.Event()
    writes = []

    def write():
        number = 0
        while not stop.is_set():
            number += 1
            document = _HEAD + f"kind: GlobalNetworkSet\nmetadata: {{name: busy{number % 5}}}\nspec: {{nets: [10.0.{number % 250}.0/24]}}\n"
            writes.append(margay("apply", "-f", "-", "--datastore", places.store, input=document).code)

    writer = threading.Thread(target=write)
    writer.start()
    try:
        for number in range(8):
            process = subprocess.Popen(["ip", "netns", "exec", NAMESPACE, *words], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
            time.sleep(0.03 + 0.04 * number)
            process.kill()
            process.wait()
        if places.etcd_content():
            expect(MARKER in places.etcd_content(), "the marker of a transfer in what is half filled")
            node = places.margay("node", "--name", "n", "--datastore", NAME, "--run-dir", f"{PLACE}/run", "--state-dir", f"{PLACE}/state")
            expect(node.code != 0 and "is not complete" in node, "`margay node` to refuse what is half filled", node)
        log = open(f"{PLACE}/migrate.log", "wb")
        process = subprocess.Popen(["ip", "netns", "exec", NAMESPACE, *words], stdout=log, stderr=log)
        try:
            said = lambda: open(f"{PLACE}/migrate.log").read()
            wait_until("the copy is complete", 20, lambda: "copied and compared" in said(), pause=0.05)
            wait_until("changes are followed", 20, lambda: re.search(r"\d changes? up to revision", said()), pause=0.05)
        finally:
            process.terminate()
            process.wait(timeout=20)
        expect("--switch" in said(), "SIGTERM to end it with a word on how it goes on", said())
    finally:
        stop.set()
        writer.join()
    expect(writes and not any(writes), "every write to the source to succeed meanwhile", writes)
    output = places.margay(*words[1:], "--switch")
    expect(output.code == 0 and "is in force" in output, "the switch", output)
    ours, theirs = sqlite_content(places.path), places.etcd_content()
    states = [json.loads(content.pop(INFORMATION))["spec"]["datastoreReady"] for content in (ours, theirs)]
    expect_equal(states, [False, True], "datastoreReady of source and target")
    expect_equal(theirs, ours, "what etcdctl reads, beside what sqlite3 reads")
    expect(MARKER not in theirs, "no marker left")
    return f"{len(theirs) + 1} keys, {len(writes)} writes meanwhile"


def and_back(places):
    """etcd to a new file, in one go; the lock and its end, seen by etcdctl."""
    path = f"{PLACE}/back.sqlite"
    places.margay("datastore", "migrate", "--from", NAME, "--to", f"sqlite:{path}", "--switch", check=True)
    ours, theirs = sqlite_content(path), places.etcd_content()
    ours.pop(INFORMATION), theirs.pop(INFORMATION)
    expect_equal(ours, theirs, "what sqlite3 reads, beside what etcdctl reads")
    ready = lambda: places.etcd.value(INFORMATION)["spec"]["datastoreReady"]
    expect_equal(ready(), False, "datastoreReady of the source after the switch")
    places.margay("datastore", "migrate", "unlock", "--datastore", NAME, check=True)
    expect_equal(ready(), True, "datastoreReady after calicoctl's `migrate unlock`")
    places.margay("datastore", "lock", "--datastore", NAME, check=True)
    expect_equal(ready(), False, "datastoreReady after `lock`")
    sound(path)


def documents_travel(places):
    """Exported from etcd, imported into SQLite, exported again: the same text."""
    places.margay("datastore", "unlock", "--datastore", NAME, check=True)
    first = run("ip", "netns", "exec", NAMESPACE, "sh", "-c", f"'{MARGAY}' export --datastore {NAME} > {PLACE}/export.yaml")
    expect_equal(first.code, 0, "the exit code of export")
    margay("import", "-f", f"{PLACE}/export.yaml", "--datastore", f"sqlite:{PLACE}/import.sqlite", check=True)
    text = run("sh", "-c", f"'{MARGAY}' export --datastore sqlite:{PLACE}/import.sqlite 2>/dev/null")
    expect_equal(text, open(f"{PLACE}/export.yaml").read(), "the second export")
    expect(text.count("===") == 2 and "NetworkPolicyList" in text, "calicoctl's three parts", text[:300])
    return f"{len(text)} octets"


def full_disk(places):
    """In a file system of 2 MB: refused with a reason, what was stored stays, and with room again it goes on."""
    folder = f"{PLACE}/small"
    os.makedirs(folder, exist_ok=True)
    documents = f"{PLACE}/many.yaml"
    with open(documents, "w") as file:
        file.write(objects(3000))
    script = f"""
        mount -t tmpfs -o size=2m none {folder} || exit 9
        head -c 400000 /dev/zero > {folder}/filler
        '{MARGAY}' apply -f {documents} --datastore sqlite:{folder}/s.db > {folder}.out 2> {folder}.err; echo "full: $?"
        stored=$(grep -c created {folder}.out)
        found=$(sqlite3 {folder}/s.db "SELECT count(*) FROM item WHERE key NOT LIKE '/calico/margay/%'")
        rm {folder}/filler
        echo "stored $stored found $found"
        printf '%s' '{_HEAD}kind: Tier
metadata: {{name: again}}
spec: {{order: 1}}
' | '{MARGAY}' apply -f - --datastore sqlite:{folder}/s.db; echo "again: $?"
        sqlite3 {folder}/s.db 'PRAGMA integrity_check'
    """
    output = run("unshare", "--mount", "--propagation", "private", "sh", "-c", script)
    words = open(f"{folder}.err").read()
    expect(re.search(r"full: [12]$", output, re.M) and f"the disk with {folder}/s.db is full" in words, "a clear error", f"{output}{words[:400]}")
    stored, found = map(int, re.search(r"stored (\d+) found (\d+)", output).groups())
    expect(stored == found and stored > 50, "everything that was said to be created, and nothing else", output)
    expect("again: 0" in output and output.rstrip().endswith("ok"), "work to go on with room, and a sound file", output)
    return f"{stored} objects stored before the disk was full"


class HeldLock:
    """sqlite3 holds the write lock; `margay apply` waits its 15 s in the background while other claims run."""

    def __init__(self):
        os.makedirs(PLACE, exist_ok=True)
        self.store = f"{PLACE}/held.sqlite"
        margay("apply", "-f", "-", "--datastore", f"sqlite:{self.store}", input=_HEAD + "kind: Tier\nmetadata: {name: a}\nspec: {order: 1}\n", check=True)
        self.holder = subprocess.Popen(["sqlite3", self.store], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        self.holder.stdin.write("BEGIN IMMEDIATE; SELECT 'held';\n")
        self.holder.stdin.flush()
        self.holder.stdout.readline()
        self.started = time.monotonic()
        self.apply = subprocess.Popen(
            [MARGAY, "apply", "-f", "-", "--datastore", f"sqlite:{self.store}"], stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
        self.apply.stdin.write(_HEAD + "kind: Tier\nmetadata: {name: b}\nspec: {order: 2}\n")
        self.apply.stdin.close()

    def claim(self):
        self.apply.wait(timeout=40)
        text = self.apply.stdout.read()
        took = time.monotonic() - self.started
        expect(self.apply.returncode != 0 and f"(pid {self.holder.pid})" in text and "sqlite3" in text, "an error that names the holder", text)
        return f"after {took:.0f} s at most"

    def end(self):
        for process in (self.holder, self.apply):
            process.kill()
            process.wait()


def damaged_file(places):
    """`check` says what sqlite3's integrity check says; a file that is no store of ours is not touched."""
    path = f"{PLACE}/damaged.sqlite"
    margay("apply", "-f", "-", "--datastore", f"sqlite:{path}", input=objects(300), check=True)
    run("sqlite3", path, "PRAGMA wal_checkpoint(TRUNCATE)", check=True)
    octets = bytearray(open(path, "rb").read())
    for place in range(len(octets) // 8192 * 4096, len(octets), 8192):
        octets[place:place + 64] = b"\xee" * 64
    open(path, "wb").write(octets)
    output = margay("datastore", "check", "--datastore", f"sqlite:{path}")
    theirs = run("sqlite3", path, "PRAGMA integrity_check").splitlines()
    # The store may open or not, according to which pages are gone; the damage is told either way.
    expect(output.code in (1, 2) and any(line.strip() and line.strip() in output for line in theirs), "exit code 1 or 2 and sqlite3's words", f"{output[:600]} / {theirs[:3]}")
    expect("Fatal" not in output, "no trap", output)
