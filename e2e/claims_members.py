"""A node and a cluster of three etcd members, each in a network namespace of its own, joined by a switch that can be cut."""

import json
import os
import signal
import subprocess

from claims import Claim, expect, expect_equal, wait_until
from labs import BUILD, CNI, MARGAY, PREFIX, WORK, Background, Workload, run
from traffic import Echo, Flows, tcp_reaches

SWITCH = f"{PREFIX}etcdsw"
HOST = f"{PREFIX}etcdhost"
PODS = {name: f"{PREFIX}etcd{name}" for name in ("web", "client")}
MEMBERS = [f"{PREFIX}etcdm{number}" for number in range(3)]
STATE = f"{WORK}/members"
NODE = f"{STATE}/node"
ADDRESSES = [f"10.99.3.{11 + number}" for number in range(3)]
NAME = "etcd://" + ",".join(f"{address}:2379" for address in ADDRESSES)

OBJECTS = """
apiVersion: projectcalico.org/v3
kind: IPPool
metadata: {name: pool}
spec: {cidr: 10.78.0.0/16}
---
apiVersion: projectcalico.org/v3
kind: GlobalNetworkPolicy
metadata: {name: all}
spec: {order: 100, selector: all(), types: [Ingress, Egress], ingress: [{action: Allow}], egress: [{action: Allow}]}
"""
DENY = """
apiVersion: projectcalico.org/v3
kind: GlobalNetworkPolicy
metadata: {name: one-port}
spec: {order: 10, selector: all(), types: [Ingress], ingress: [{action: Deny, protocol: TCP, destination: {ports: [PORT]}}]}
"""


class Members:
    def __init__(self):
        self.processes = [None] * 3
        self.node = None
        os.makedirs(STATE, exist_ok=True)
        for name in [SWITCH, HOST, *MEMBERS]:
            run("ip", "netns", "add", name, check=True)
            self.inside(name, "ip", "link", "set", "lo", "up", check=True)
        self.inside(SWITCH, "ip", "link", "add", "br0", "type", "bridge", check=True)
        self.inside(SWITCH, "ip", "link", "set", "br0", "up", check=True)
        for number, (name, address) in enumerate(zip([HOST, *MEMBERS], ["10.99.3.1", *ADDRESSES])):
            self.inside(SWITCH, "ip", "link", "add", f"p{number}", "type", "veth", "peer", "name", "uplink", "netns", name, check=True)
            self.inside(SWITCH, "ip", "link", "set", f"p{number}", "master", "br0", "up", check=True)
            self.inside(name, "ip", "address", "add", f"{address}/24", "dev", "uplink", check=True)
            self.inside(name, "ip", "link", "set", "uplink", "up", check=True)

    @staticmethod
    def inside(namespace, *words, **options):
        return run("ip", "netns", "exec", namespace, *words, **options)

    def margay(self, *words, **options):
        return self.inside(HOST, MARGAY, *words, "--datastore", NAME, **options)

    def control(self, *words, at=None, **options):
        endpoints = ADDRESSES if at is None else [ADDRESSES[at]]
        return self.inside(
            MEMBERS[at or 0], "etcdctl", "--endpoints", ",".join(f"{address}:2379" for address in endpoints), *words, environment={"ETCDCTL_API": "3"},
            **options)

    def start(self, number):
        address = ADDRESSES[number]
        cluster = ",".join(f"m{index}=http://{place}:2380" for index, place in enumerate(ADDRESSES))
        with open(f"{STATE}/etcd{number}.log", "ab") as log:
            self.processes[number] = subprocess.Popen(
                ["ip", "netns", "exec", MEMBERS[number], "etcd", "--name", f"m{number}", "--data-dir", f"{STATE}/data{number}",
                 "--listen-client-urls", f"http://{address}:2379", "--advertise-client-urls", f"http://{address}:2379",
                 "--listen-peer-urls", f"http://{address}:2380", "--initial-advertise-peer-urls", f"http://{address}:2380",
                 "--initial-cluster", cluster, "--initial-cluster-token", PREFIX],
                stdin=subprocess.DEVNULL, stdout=log, stderr=log)

    def healthy(self, number):
        wait_until(f"member {number} is healthy", 30, lambda: self.control("endpoint", "health", at=number).code == 0, pause=0.1)

    def leader(self):
        for number in range(3):
            status = self.control("endpoint", "status", "-w", "json", at=number)
            try:
                fields = json.loads(status.splitlines()[-1])[0]["Status"]
            except (ValueError, IndexError, KeyError):
                continue
            if fields.get("leader") and fields["leader"] == fields["header"]["member_id"]:
                return number, {self._member(index): index for index in range(3)}
        raise Claim("no leader")

    def _member(self, number):
        status = self.control("endpoint", "status", "-w", "json", at=number)
        return json.loads(status.splitlines()[-1])[0]["Status"]["header"]["member_id"]

    def cni(self, command, name):
        configuration = {
            "cniVersion": "1.0.0", "name": "k8s-pod-network", "type": "margay-cni", "ipam": {"type": "calico-ipam"},
            "margay": {"socket": f"{NODE}/cni.sock", "tombstones": f"{NODE}/tombstones"}}
        return self.inside(HOST, CNI, input=json.dumps(configuration), check=True, environment={
            "CNI_COMMAND": command, "CNI_CONTAINERID": f"c-{name}", "CNI_NETNS": f"/run/netns/{PODS[name]}", "CNI_IFNAME": "eth0", "CNI_PATH": BUILD,
            "CNI_ARGS": f"IgnoreUnknown=1;K8S_POD_NAMESPACE=shop;K8S_POD_NAME={name};K8S_POD_INFRA_CONTAINER_ID=c-{name}"})

    def up(self):
        for number in range(3):
            self.start(number)
        for number in range(3):
            self.healthy(number)
        self.margay("apply", "-f", "-", input=OBJECTS, check=True)
        self.node = Background(
            "ip", "netns", "exec", HOST, MARGAY, "node", "--name", "alone", "--datastore", NAME, "--run-dir", NODE, "--state-dir", f"{NODE}/state",
            "--ipv4", "10.99.3.1/24", group=True)
        wait_until("felix is in sync", 30, lambda: "in sync with the datastore" in self.node.text)
        wait_until("the CNI socket is there", 10, lambda: os.path.exists(f"{NODE}/cni.sock"))
        loads = {}
        for name, namespace in PODS.items():
            run("ip", "netns", "add", namespace, check=True)
            address = json.loads(self.cni("ADD", name))["ips"][0]["address"].split("/")[0]
            loads[name] = Workload(name, "alone", namespace, f"c-{name}", [address])
        return loads

    def down(self):
        if self.node:
            self.node.signal_group(signal.SIGTERM)
            self.node.wait(15)
        for process in self.processes:
            if process:
                process.kill()
                process.wait()
        for name in [*PODS.values(), HOST, *MEMBERS, SWITCH]:
            if os.path.exists(f"/run/netns/{name}"):
                run("ip", "netns", "delete", name)

    def status(self):
        return json.loads(self.inside(HOST, MARGAY, "node", "status", "-o", "json", "--run-dir", NODE))

    def metric(self, name):
        for line in self.inside(HOST, "curl", "-s", "http://127.0.0.1:9099/metrics").splitlines():
            if line.startswith(name + " "):
                return float(line.split()[1])
        raise Claim(f"no metric {name}")

    def takes_policies(self, port, loads, what):
        """Port by port: a denial that is written takes effect, whatever has happened before."""
        web = loads["web"]
        with Echo(web.namespace, tcp=[port]):
            expect(tcp_reaches(loads["client"].namespace, web.v4, port), f"port {port} open before ({what})")
            wait_until("the policy is written", 20, lambda: self.margay("apply", "-f", "-", input=DENY.replace("PORT", str(port))).code == 0, pause=0.2)
            wait_until(f"port {port} is closed ({what})", 20, lambda: not tcp_reaches(loads["client"].namespace, web.v4, port))


def through_outages(members):
    """A leader's move, its death, and a partition of the whole cluster: traffic does not notice, and policies take effect again afterwards."""
    loads = members.up()
    web = loads["web"]
    lists = members.metric("margay_datastore_feed_lists_total")
    with Echo(web.namespace, tcp=[80], udp=[5000]):
        flows = Flows()
        flows.add("tcp", loads["client"], web.v4, 80)
        flows.add("udp", loads["client"], web.v4, 5000)
        flows.add("icmp", loads["client"], web.v4)
        flows.start()
        try:
            leader, numbers = members.leader()
            other = next(member for member, number in numbers.items() if number != leader)
            members.control("move-leader", f"{other:x}", at=leader, check=True)
            members.takes_policies(7001, loads, "the leader has moved")

            dead = members.leader()[0]
            members.processes[dead].kill()
            members.processes[dead].wait()
            members.takes_policies(7002, loads, "the leader was killed")
            members.start(dead)
            members.healthy(dead)

            # The host is cut off from all members: nothing is said on either side.
            members.inside(SWITCH, "ip", "link", "set", "p0", "down", check=True)
            wait_until(
                "`margay node status` says that the datastore is away", 40,
                lambda: members.status()["felix"]["datastore"] != "connected", pause=0.2)
            expect(members.status()["felix"]["health"]["ok"], "felix ready all the same: the kernel keeps its last good state")
            members.inside(SWITCH, "ip", "link", "set", "p0", "up", check=True)
            wait_until("felix hears again", 20, lambda: members.status()["felix"]["datastore"] == "connected", pause=0.2)
            members.takes_policies(7003, loads, "the partition is over")
        finally:
            sent, problems = flows.finish()
    expect_equal(problems, [], "requests without an answer")
    expect_equal(members.metric("margay_datastore_feed_lists_total"), lists, "times that felix read everything anew")
    store = members.status()["felix"]["store"]
    expect(store["endpoint"] and store["revision"] > 0, "`margay node status` to name the member and the revision", store)
    return f"{sent} requests, {int(members.metric('margay_datastore_feed_resumes_total'))} resumed watches"
