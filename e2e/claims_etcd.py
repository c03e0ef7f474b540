"""Margay on the distribution's etcd, in a network namespace of its own, looked at with etcdctl."""

import json
import os
import re
import signal
import subprocess
import time

from claims import expect, expect_equal, wait_until
from labs import BUILD, CNI, MARGAY, PREFIX, WORK, Background, run

NAMESPACE = f"{PREFIX}etcd"
POD = f"{PREFIX}etcdpod"
ENDPOINT = "127.0.0.1:2379"
NAME = f"etcd://{ENDPOINT}"
ROOT = "/calico/resources/v3/projectcalico.org"
STATE = f"{WORK}/etcd"
NODE = f"{STATE}/node"
PASSWORD = "geheim-und-lang"

OBJECTS = """
apiVersion: projectcalico.org/v3
kind: IPPool
metadata: {name: pool}
spec: {cidr: 10.77.0.0/16}
---
apiVersion: projectcalico.org/v3
kind: Tier
metadata: {name: early}
spec: {order: 10}
---
apiVersion: projectcalico.org/v3
kind: NetworkPolicy
metadata: {name: early.web, namespace: shop}
spec: {tier: early, selector: app == 'web', ingress: [{action: Allow, protocol: TCP, destination: {ports: [80]}}]}
"""


class Etcd:
    def __init__(self):
        self.process = None
        os.makedirs(STATE, exist_ok=True)
        if not os.path.exists(f"/run/netns/{NAMESPACE}"):
            run("ip", "netns", "add", NAMESPACE, check=True)
            self.inside("ip", "link", "set", "lo", "up", check=True)
            self.inside("ip", "link", "add", "uplink", "type", "veth", "peer", "name", "far", check=True)
            self.inside("ip", "link", "set", "far", "up", check=True)
            self.inside("ip", "address", "add", "172.30.77.1/24", "dev", "uplink", check=True)
            self.inside("ip", "link", "set", "uplink", "up", check=True)

    def inside(self, *words, **options):
        return run("ip", "netns", "exec", NAMESPACE, *words, **options)

    def margay(self, *words, **options):
        return self.inside(MARGAY, *words, **options)

    def start(self):
        if self.process:
            return
        with open(f"{STATE}/etcd.log", "ab") as log:
            self.process = subprocess.Popen(
                ["ip", "netns", "exec", NAMESPACE, "etcd", "--data-dir", f"{STATE}/data", "--listen-client-urls", f"http://{ENDPOINT}",
                 "--advertise-client-urls", f"http://{ENDPOINT}"], stdin=subprocess.DEVNULL, stdout=log, stderr=log)
        wait_until("etcd is healthy", 30, lambda: self.control("endpoint", "health").code == 0, pause=0.05)

    def stop(self):
        if self.process:
            self.process.kill()
            self.process.wait()
            self.process = None

    def control(self, *words, **options):
        return self.inside("etcdctl", "--endpoints", ENDPOINT, *words, environment={"ETCDCTL_API": "3"}, **options)

    def keys(self):
        return [line for line in self.control("get", "--prefix", "/calico", "--keys-only", check=True).splitlines() if line]

    def value(self, key):
        return json.loads(self.control("get", "--print-value-only", key, check=True))

    def down(self):
        self.stop()
        for name in (POD, NAMESPACE):
            if os.path.exists(f"/run/netns/{name}"):
                run("ip", "netns", "delete", name)


def calicos_layout(etcd):
    etcd.start()
    etcd.margay("apply", "-f", "-", "--datastore", NAME, input=OBJECTS, check=True)
    # Beside Calico's keys stand the guards of rules about several objects, which no program of Calico reads.
    expect_equal(
        [key for key in etcd.keys() if not key.startswith("/calico/margay/")],
        [f"{ROOT}/ippools/pool", f"{ROOT}/networkpolicies/shop/early.web", f"{ROOT}/tiers/early"], "the keys that etcdctl sees")
    policy = etcd.value(f"{ROOT}/networkpolicies/shop/early.web")
    expect_equal((policy["apiVersion"], policy["kind"]), ("projectcalico.org/v3", "NetworkPolicy"), "what the value says it is")
    metadata = policy["metadata"]
    expect_equal((metadata["name"], metadata["namespace"]), ("early.web", "shop"), "the name inside the value")
    expect(re.fullmatch(r"[0-9a-f-]{36}", metadata.get("uid", "")), "a UUID", metadata)
    expect(re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ", metadata.get("creationTimestamp", "")), "a time of creation", metadata)
    expect("resourceVersion" not in metadata, "no resource version inside the value: the revision of the key is it", metadata)
    return f"{len(etcd.keys())} keys"


def others_objects(etcd):
    """What somebody else writes with etcdctl is served; a field that Margay does not know survives Margay's write."""
    key = f"{ROOT}/globalnetworksets/partners"
    document = {
        "apiVersion": "projectcalico.org/v3", "kind": "GlobalNetworkSet", "metadata": {"name": "partners", "labels": {"by": "etcdctl"}},
        "spec": {"nets": ["192.0.2.0/24"], "fromTheFuture": {"a": [1, 2]}}}
    etcd.control("put", key, json.dumps(document), check=True)
    shown = json.loads(etcd.margay("get", "globalnetworkset", "partners", "-o", "json", "--datastore", NAME, check=True))
    expect_equal(shown["spec"]["nets"], ["192.0.2.0/24"], "the object's nets")
    expect(shown["metadata"].get("resourceVersion"), "the key's revision as resource version", shown["metadata"])
    changed = "apiVersion: projectcalico.org/v3\nkind: GlobalNetworkSet\nmetadata: {name: partners}\nspec: {nets: [192.0.2.0/24, 198.51.100.0/24]}\n"
    etcd.margay("apply", "-f", "-", "--datastore", NAME, input=changed, check=True)
    stored = etcd.value(key)
    expect_equal(stored["spec"]["nets"], ["192.0.2.0/24", "198.51.100.0/24"], "the nets after margay's write")
    expect_equal(stored["spec"].get("fromTheFuture"), {"a": [1, 2]}, "the field that margay does not know")
    etcd.margay("delete", "globalnetworkset", "partners", "--datastore", NAME, check=True)
    expect(key not in etcd.keys(), "the key gone after `margay delete`", etcd.keys())


def calicos_variables(etcd):
    def tiers(*words, **environment):
        return etcd.margay("get", "tiers", *words, environment={"MARGAY_DATASTORE": "", **environment})
    for environment in (
        {"MARGAY_DATASTORE": NAME}, {"ETCD_ENDPOINTS": f"http://{ENDPOINT}", "DATASTORE_TYPE": "etcdv3"},
        {"CALICO_ETCD_ENDPOINTS": f"http://{ENDPOINT}", "ETCD_ENDPOINTS": "http://127.0.0.1:1"}, {"FELIX_ETCDENDPOINTS": f"http://{ENDPOINT}"},
        {"ETCD_AUTHORITY": ENDPOINT, "ETCD_SCHEME": "http"}, {"MARGAY_DATASTORE": NAME, "ETCD_ENDPOINTS": "http://127.0.0.1:1"},
    ):
        output = tiers(**environment)
        expect(output.code == 0 and "early" in output, f"the tier by {environment}", output)
    output = tiers("--datastore", NAME, MARGAY_DATASTORE="etcd://127.0.0.1:1")
    expect(output.code == 0 and "early" in output, "the option before the variable", output)
    output = tiers(DATASTORE_TYPE="kubernetes")
    expect(output.code != 0 and re.search(r"kubernetes.*yet", output), "a clear word that the Kubernetes datastore is not there yet", output)


def mistakes(etcd):
    """Each ends within seconds, names the endpoint and says what to do."""
    etcd.start()
    def fails(name, *patterns, **environment):
        started = time.monotonic()
        output = etcd.margay("get", "tiers", "--datastore", name, environment=environment or None, seconds=30)
        expect(output.code not in (0, 139, 132, 133, 134), f"an error for {name}", output)
        expect(time.monotonic() - started < 12, "an error within seconds", f"{time.monotonic() - started:.1f} s")
        for pattern in patterns:
            expect(re.search(pattern, output), f"/{pattern}/ for {name}", output)
        return output
    fails("etcd://127.0.0.1:1", r"127\.0\.0\.1:1", r"refused")
    fails("etcd://127.0.0.1:1,127.0.0.1:2", r"127\.0\.0\.1:1", r"127\.0\.0\.1:2", r"refused")
    fails("etcd://nobody.invalid", r"nobody\.invalid", r"resolve")
    fails(f"etcds://{ENDPOINT}", r"TLS")
    fails(f"etcds://{ENDPOINT}", r"/no/such/ca\.pem", ETCD_CA_CERT_FILE="/no/such/ca.pem")
    fails("etcd://a:b:c", r"a:b:c", r"HOST:PORT")
    output = fails(f"etcd://root:{PASSWORD}@{ENDPOINT}", r"ETCD_PASSWORD")
    expect(PASSWORD not in output, "no password in the message", output)
    etcd.stop()
    fails(NAME, r"127\.0\.0\.1:2379", r"refused")


def node_waits(etcd):
    """A host that boots before its etcd: the node waits, says so, and goes on; a pod's records are Calico's; no secret is on any command line."""
    etcd.stop()
    node = Background(
        "ip", "netns", "exec", NAMESPACE, MARGAY, "node", "--name", "alone", "--datastore", NAME, "--run-dir", NODE, "--state-dir", f"{NODE}/state",
        "--ipv4", "172.30.77.1/24", group=True, environment={"ETCD_USERNAME": "root", "ETCD_PASSWORD": PASSWORD})
    try:
        node.wait_for("waiting for the datastore", 10)
        expect(re.search(r"127\.0\.0\.1:2379.*refused", node.text), "the log to name endpoint and reason", node.text)
        etcd.start()
        node.wait_for("the datastore answers", 15)
        wait_until("felix is in sync", 15, lambda: "in sync with the datastore" in node.text)
        wait_until("the CNI socket is there", 10, lambda: os.path.exists(f"{NODE}/cni.sock"))
        run("ip", "netns", "add", POD, check=True)
        configuration = {
            "cniVersion": "1.0.0", "name": "k8s-pod-network", "type": "margay-cni", "ipam": {"type": "calico-ipam"},
            "margay": {"socket": f"{NODE}/cni.sock", "tombstones": f"{NODE}/tombstones"}}

        def cni(command):
            return etcd.inside(CNI, input=json.dumps(configuration), check=True, environment={
                "CNI_COMMAND": command, "CNI_CONTAINERID": "c0ffee", "CNI_NETNS": f"/run/netns/{POD}", "CNI_IFNAME": "eth0", "CNI_PATH": BUILD,
                "CNI_ARGS": "IgnoreUnknown=1;K8S_POD_NAMESPACE=shop;K8S_POD_NAME=web-1;K8S_POD_INFRA_CONTAINER_ID=c0ffee"})
        address = json.loads(cni("ADD"))["ips"][0]["address"].split("/")[0]
        block = re.sub(r"\.\d+$", "", address)
        name = "alone-k8s-web--1-eth0"
        blocks = [key for key in etcd.keys() if key.startswith(f"/calico/ipam/v2/assignment/ipv4/block/{block}.")]
        expect_equal(len(blocks), 1, "blocks of the pod's address")
        suffix = blocks[0].rsplit("/", 1)[1]
        for key in (
            f"{ROOT}/nodes/alone", f"{ROOT}/clusterinformations/default", f"{ROOT}/tiers/default", f"{ROOT}/workloadendpoints/shop/{name}",
            f"/calico/ipam/v2/host/alone/ipv4/block/{suffix}", "/calico/ipam/v2/handle/k8s-pod-network.c0ffee"):
            expect(key in etcd.keys(), key, etcd.keys())
        expect_equal(etcd.value(f"{ROOT}/workloadendpoints/shop/{name}")["spec"]["ipNetworks"], [f"{address}/32"], "the endpoint's addresses")
        stored = etcd.value(blocks[0])
        expect_equal((stored["cidr"], stored["affinity"]), (suffix.replace("-", "/"), "host:alone"), "the block's own words")
        expect(any(a.get("handle_id") == "k8s-pod-network.c0ffee" for a in stored["attributes"]), "the handle in the block", stored["attributes"])
        expect_equal(etcd.value(f"/calico/ipam/v2/host/alone/ipv4/block/{suffix}")["state"], "confirmed", "the affinity's state")
        expect_equal(
            etcd.value("/calico/ipam/v2/handle/k8s-pod-network.c0ffee")["block"], {suffix.replace("-", "/"): 1}, "the handle's blocks")
        lines = [open(f"/proc/{pid}/cmdline", "rb").read() for pid in _children(node.process.pid)]
        expect(len(lines) >= 2, "felix and bgp running", lines)
        expect(not any(PASSWORD.encode() in line for line in lines), "no password on a command line", lines)
        cni("DEL")
        expect(not [key for key in etcd.keys() if "web--1" in key or "c0ffee" in key], "nothing of the pod after DEL", etcd.keys())

        # etcd goes and comes: the daemons say so and follow again.
        etcd.stop()
        node.wait_for("refused", 15)
        etcd.start()
        wait_until("felix hears again", 20, lambda: "the datastore answers again" in node.text)
    finally:
        node.signal_group(signal.SIGTERM)
        node.wait(15)
    expect(PASSWORD not in node.text, "no password in the log")
    return f"pod {address}"


def _children(pid):
    """Every process below `pid`."""
    found = []
    for task in os.listdir(f"/proc/{pid}/task"):
        for child in open(f"/proc/{pid}/task/{task}/children").read().split():
            found += [int(child), *_children(int(child))]
    return found
