"""A host's own interface under policy: `Examples/host-endpoints.yaml` as it stands, applied by `margay apply`, and what packets then do."""

import os

from claims import expect, expect_equal, wait_until
from labs import HERE, MARGAY, PREFIX, margay, run
from onehost import NODE, Host, ip, policy
from traffic import Echo, ping, tcp_reaches, udp_echo

EXAMPLE = os.path.join(HERE, "..", "Examples", "host-endpoints.yaml")
FAMILIES = {"192.0.2": ("192.0.2.1", "192.0.2.2", "198.51.100.2"), "fd00:2::": ("fd00:2::1", "fd00:2::2", "fd00:3::2")}


class Networks:
    """The host between the network outside (`fabric`, which the example polices) and one inside (`back`)."""

    def __init__(self, host):
        self.host = host
        self.outside, self.inside = f"{PREFIX}heout", f"{PREFIX}hein"
        for namespace, name, v4, v6 in ((self.outside, "fabric", "192.0.2", "fd00:2::"), (self.inside, "back", "198.51.100", "fd00:3::")):
            run("ip", "netns", "add", namespace, check=True)
            host.made.append(namespace)
            ip(host.namespace, f"link add {name} type veth peer name eth0 netns {namespace}")
            for where, device, last in ((host.namespace, name, 1), (namespace, "eth0", 2)):
                ip(where, f"address add {v4}.{last}/24 dev {device}", f"address add {v6}{last}/64 dev {device} nodad", f"link set {device} up")
            ip(namespace, "link set lo up", f"route add default via {v4}.1", f"route add ::/0 via {v6}1")
        # Every address works before anything is policed.
        for target, _, behind in FAMILIES.values():
            wait_until(f"{target} and {behind} answer", 10, lambda: ping(self.outside, target) and ping(self.outside, behind))

    def applied(self):
        """Everything written so far is in the kernel."""
        self.host.in_sync(self.host.store.put(*policy("fence", {"selector": "role == 'nobody'"})))


def open_before(host):
    host.networks = networks = Networks(host)
    with Echo(host.namespace, tcp=[22, 81], udp=[5353]):
        for target, _, _ in FAMILIES.values():
            expect(tcp_reaches(networks.outside, target, 81), f"{target}:81 to be open while the host has no endpoint")
    table = host.exec("nft", "list", "table", "inet", "margay", check=True)
    expect("host-" not in table and "failsafe" not in table, "nothing for host endpoints in the table of a host without any")


def example_is_enforced(host):
    networks = host.networks
    applied = host.exec(MARGAY, "apply", "-f", EXAMPLE, "--datastore", "etcd://127.0.0.1:2379")
    expect_equal(applied.code, 0, f"margay apply: {applied}")
    expect("no effect" not in applied, "no field of the example to be without effect", applied)
    networks.applied()
    with Echo(host.namespace, tcp=[22, 80, 81], udp=[5353, 5354]), Echo(networks.inside, tcp=[25, 81]), Echo(networks.outside, tcp=[25, 8080]):
        for target, other, behind in FAMILIES.values():
            for what, does, should in (
                (f"TCP {target}:80", tcp_reaches(networks.outside, target, 80), True),
                (f"TCP {target}:81", tcp_reaches(networks.outside, target, 81), False),
                (f"TCP {target}:22, a failsafe port", tcp_reaches(networks.outside, target, 22), True),
                (f"ping {target}", ping(networks.outside, target), True),
                (f"UDP {target}:5353", udp_echo(networks.outside, target, 5353, b"question"), True),
                (f"UDP {target}:5354", udp_echo(networks.outside, target, 5354, b"question"), False),
                (f"TCP {behind}:81 through the host", tcp_reaches(networks.outside, behind, 81), True),
                (f"TCP {behind}:25 through the host", tcp_reaches(networks.outside, behind, 25), False),
                (f"TCP {other}:25 through the host, from inside", tcp_reaches(networks.inside, other, 25), False),
                (f"TCP {other}:8080 from the host", tcp_reaches(host.namespace, other, 8080), True),
            ):
                expect_equal(does, should, what)
    flows = host.exec("conntrack", "-L") + host.exec("conntrack", "-L", "-f", "ipv6")
    expect("dport=80 " in flows, "conntrack to know the connections", flows)
    expect("port=5353" not in flows, "conntrack to know nothing of the untracked questions", flows)


def status_names_the_interface(host):
    local = margay("node", "status", "--run-dir", f"{host.directory}/run")
    expect("host endpoint h1-fabric: polices fabric" in local, "the endpoint with its interface in `margay node status`", local)
    ip(host.namespace, "address del 192.0.2.1/24 dev fabric", "address del fd00:2::1/64 dev fabric")
    try:
        wait_until("an endpoint without an interface is told of", 10, lambda: "no interface has one of expectedIPs" in margay(
            "node", "status", "--run-dir", f"{host.directory}/run"))
    finally:
        ip(host.namespace, "address add 192.0.2.1/24 dev fabric", "address add fd00:2::1/64 dev fabric nodad")
    wait_until("it has its interface again", 10, lambda: host.status()["hostEndpoints"][0]["interfaces"] == ["fabric"])


def outlives_the_agent(host):
    before = host.kernel()
    host.kill_felix()
    with Echo(host.namespace, tcp=[22, 81]):
        for target, _, _ in FAMILIES.values():
            expect_equal(tcp_reaches(host.networks.outside, target, 81), False, f"TCP {target}:81 while no agent lives")
            expect_equal(tcp_reaches(host.networks.outside, target, 22), True, f"TCP {target}:22 while no agent lives")
    host.start_felix()
    expect_equal(host.status()["kernelChanges"], 0, "changes of the next agent")
    expect_equal(host.kernel(), before, "the kernel after the next start")


def everything_goes(host):
    gone = host.exec(MARGAY, "delete", "-f", EXAMPLE, "--datastore", "etcd://127.0.0.1:2379")
    expect_equal(gone.code, 0, f"margay delete: {gone}")
    host.networks.applied()
    with Echo(host.namespace, tcp=[81]):
        for target, _, _ in FAMILIES.values():
            expect(tcp_reaches(host.networks.outside, target, 81), f"{target}:81 to be open again")
    table = host.exec("nft", "list", "table", "inet", "margay", check=True)
    expect("host-" not in table and "failsafe" not in table, "nothing for host endpoints in the table", table[:2000])


CLAIMS = [
    ("a host without endpoints has no rules for them, and is open", open_before),
    ("the example: input, output, forwarding, untracked, failsafe ports", example_is_enforced),
    ("status names the interface of each endpoint, or why it has none", status_names_the_interface),
    ("the rules outlive the agent, and the next one changes nothing", outlives_the_agent),
    ("with the last endpoint everything of theirs goes", everything_goes),
]


def run_group(claim):
    host = Host("he")
    try:
        host.up()
        for text, body in CLAIMS:
            claim(text, body, host)
    finally:
        host.down()
