"""Addresses change hands: what was known of the old holder is forgotten before the new one has a cable."""

import json
import os
import socket
import threading

from claims import Claim, expect, expect_equal, wait_until
from labs import BUILD, CNI, Workload, attach_by_hand, detach_by_hand, inside, margay, run
from packets import UDP, Port, contains, ip_packet, marker, udp
from traffic import Echo


def _flows(lab, host, address):
    family = "ipv6" if ":" in address else "ipv4"
    lines = set()
    for side in ("-s", "-d", "-r", "-q"):
        output = run("ip", "netns", "exec", lab.namespace(host), "conntrack", "-L", "-f", family, side, address)
        lines |= {line for line in output.splitlines() if f"={address} " in line}
    return sorted(lines)


def _established(namespace, address, port, kind, timeout=3):
    """A flow with an answer, left open."""
    with inside(namespace):
        client = socket.socket(socket.AF_INET6 if ":" in address else socket.AF_INET, kind)
    try:
        client.settimeout(timeout)
        client.connect((address, port))
        client.send(b"hello")
        expect_equal(client.recv(100), b"hello", f"the echo of {address}:{port}")
    except BaseException:
        client.close()
        raise
    return client


def no_flow_left_after_del(lab):
    """On the host that the workload leaves, for both families, TCP and UDP, flows of both directions."""
    loads = lab.workloads()
    web, client = loads["web-2"], loads["client-1"]
    guest = attach_by_hand(lab, "host1", "tenant", "shop", {"app": "web"})
    clients = []
    try:
        with Echo(web.namespace, tcp=[80], udp=[5000]), Echo(guest.namespace, tcp=[80], udp=[5000]):
            for family in (4, 6):
                for source, target in ((guest, web), (client, guest)):
                    for port, kind in ((80, socket.SOCK_STREAM), (5000, socket.SOCK_DGRAM)):
                        clients.append(_established(source.namespace, target.address(family), port, kind))
            for address in (guest.v4, guest.v6):
                expect(len(_flows(lab, "host1", address)) >= 4, f"conntrack to know four flows of {address}", _flows(lab, "host1", address))
            detach_by_hand(lab, guest, "shop", delete_namespace=False)
            for address in (guest.v4, guest.v6):
                expect_equal(_flows(lab, "host1", address), [], f"flows of {address} on host1 when DEL has returned")
    finally:
        for one in clients:
            one.close()
        run("ip", "netns", "delete", guest.namespace)


def remote_flows_are_not_inherited(lab):
    """The next holder of an address sends with the ports of the old holder's flow, which another host's kernel may still know.

    The old holder was allowed; the new one is not. The receiving host must decide anew.
    """
    loads = lab.workloads()
    database = loads["db-1"]  # Only workloads with app == "web" may reach TCP 5432; a UDP flow of its own would do as well.
    lab.apply(ALLOW_WEB_UDP)
    old = attach_by_hand(lab, "host1", "tenant", "shop", {"app": "web"})
    addresses = {4: old.v4, 6: old.v6}
    new = None
    try:
        with Echo(database.namespace, udp=[6000]):
            sports = {}
            for family in (4, 6):
                def answered():
                    try:
                        client = _established(old.namespace, database.address(family), 6000, socket.SOCK_DGRAM, timeout=0.1)
                    except (OSError, Claim):
                        return None
                    return client
                client = wait_until("the policy for the old holder is there", 3, answered)
                sports[family] = client.getsockname()[1]
                client.close()
            detach_by_hand(lab, old, "shop")
            old = None
            # Addresses are given out in an order that this claim does not know: the network configuration may ask for one.
            new = _attach_with_addresses(lab, "heir", "office", {"app": "client"}, addresses.values())
            expect_equal({4: new.v4, 6: new.v6}, addresses, "addresses of the new holder")
            with Port(new.namespace) as raw, Port(database.namespace) as watch, Port(loads["web-1"].namespace) as fence:
                for family in (4, 6):
                    bad = marker("heir")
                    source, target = addresses[family], database.address(family)
                    raw.send(ip_packet(source, target, UDP, udp(source, target, 46000, 6000, bad + b"-new-flow")))
                    raw.send(ip_packet(source, target, UDP, udp(source, target, sports[family], 6000, bad)))
                    end = marker("fence")
                    allowed = loads["web-1"].address(family)
                    fence.send(ip_packet(allowed, target, UDP, udp(allowed, target, 46001, 6000, end)))
                    frames = watch.seen_until(end)
                    expect(not contains(frames, bad + b"-new-flow"), f"the new holder denied (IPv{family})")
                    expect(not contains(frames, bad), f"the old holder's flow of no use to the new one on another host (IPv{family})",
                           f"its datagram arrived; conntrack on host3: {_flows(lab, 'host3', source)}")
    finally:
        if old:
            detach_by_hand(lab, old, "shop")
        if new:
            detach_by_hand(lab, new, "office")
        margay("delete", "networkpolicy", "database-udp", "-n", "shop", "--datastore", lab.datastore)


ALLOW_WEB_UDP = """
apiVersion: projectcalico.org/v3
kind: NetworkPolicy
metadata: {name: database-udp, namespace: shop}
spec:
  order: 90
  selector: app == "db"
  types: [Ingress]
  ingress:
    - action: Allow
      protocol: UDP
      source: {selector: app == "web"}
      destination: {ports: [6000]}
"""


def _attach_with_addresses(lab, pod, pod_namespace, labels, addresses):
    namespace = lab.namespace(pod)
    run("ip", "netns", "add", namespace, check=True)
    container = (pod.encode().hex() * 10)[:64]
    configuration = {
        "cniVersion": "1.0.0", "name": "k8s-pod-network", "type": "margay-cni",
        "ipam": {"type": "calico-ipam", "assign_ipv4": "true", "assign_ipv6": "true"},
        "margay": {"socket": f"{lab.directory}/host1/cni.sock", "tombstones": f"{lab.directory}/host1/state/tombstones"},
        "args": {"cni": {"labels": [{"key": key, "value": value} for key, value in labels.items()]}},
    }
    def attempt(octets):
        return run(
            "ip", "netns", "exec", lab.namespace("host1"), CNI, input=json.dumps(octets),
            environment={
                "CNI_COMMAND": "ADD", "CNI_CONTAINERID": container, "CNI_NETNS": f"/run/netns/{namespace}", "CNI_IFNAME": "eth0",
                "CNI_PATH": BUILD,
                "CNI_ARGS": f"IgnoreUnknown=1;K8S_POD_NAMESPACE={pod_namespace};K8S_POD_NAME={pod};K8S_POD_INFRA_CONTAINER_ID={container}",
            })
    # Calico's own way to ask for addresses is the pod's annotation, which needs a cluster; CNI's is the capability "ips".
    output = attempt({**configuration, "runtimeConfig": {"ips": list(addresses)}, "capabilities": {"ips": True}})
    if output.code != 0:
        raise Claim(f"margay-cni ADD of {pod} with addresses: exit code {output.code}: {output}")
    given = [ip["address"].split("/")[0] for ip in json.loads(output)["ips"]]
    return Workload(pod, "host1", namespace, container, given)


def silent_until_protected(lab):
    """A workload that may neither send nor receive is flooded, and floods, from the moment its interface exists: nothing passes."""
    loads = lab.workloads()
    outside, friend = loads["client-1"], loads["client-2"]
    block = next(line for line in lab.routes("host1") if line.startswith("blackhole 10.65.")).split()[1].split("/")[0].rsplit(".", 1)
    prefix6 = friend.v6.rsplit(":", 1)
    total = 0
    for round_ in range(4):
        wanted = [f"{block[0]}.{int(block[1]) + 40 + round_}", f"{prefix6[0]}:{(int(prefix6[1], 16) & ~0x3f) + 0x28 + round_:x}"]
        pod, out, into = f"newcomer{round_}", marker("newcomer"), marker("welcome")
        namespace = lab.namespace(pod)
        stop, caught, sent, problem = threading.Event(), [], [0], []
        def flood():
            try:
                while not stop.is_set() and not os.path.exists(f"/run/netns/{namespace}"):
                    pass
                port = None
                while port is None and not stop.is_set():
                    try:
                        port = Port(namespace)
                    except OSError:
                        continue  # not there yet
                while not stop.is_set():
                    for source, target in zip(wanted, (outside.v4, outside.v6)):
                        try:
                            port.send(ip_packet(source, target, UDP, udp(source, target, 47000, 5000, out)))
                            sent[0] += 1
                        except OSError:
                            pass  # not up yet
                        sender.send(ip_packet(target, source, UDP, udp(target, source, 47001, 5000, into)))
                    while (octets := port.receive()) is not None:
                        caught.append(octets)
                port.close()
            except Exception as error:
                problem.append(error)
        with Port(outside.namespace) as sender, Port(outside.namespace) as watch:
            thread = threading.Thread(target=flood, daemon=True)
            thread.start()
            new = None
            try:
                new = _attach_with_addresses(lab, pod, "outside", {"app": "intruder"}, wanted)
                before = sent[0]
                wait_until("the newcomer has sent 200 packets after ADD returned", 5, lambda: problem or sent[0] > before + 200)
            finally:
                stop.set()
                thread.join(5)
                if new:
                    detach_by_hand(lab, new, "outside")
            expect(not problem, "the flood to go on", problem)
            with Port(friend.namespace) as honest:
                for family in (4, 6):
                    fence, source, target = marker("fence"), friend.address(family), outside.address(family)
                    honest.send(ip_packet(source, target, UDP, udp(source, target, 47002, 5000, fence)))
                    frames = watch.seen_until(fence)
                    expect(not contains(frames, out), f"nothing from the newcomer (IPv{family}, round {round_})", f"{len(contains(frames, out))} packets")
            expect(not contains(caught, into), f"nothing to the newcomer (round {round_})", f"{len(contains(caught, into))} packets")
            total += sent[0]
    return f"{total} packets sent in four rounds"


def nothing_remains_after_del(lab):
    """Rules, routes, neighbours, interfaces and addresses are as before a workload came and went."""
    def state():
        # Blocks stay with the host, so the first workload of a family may leave one more blackhole route; host1 has both already.
        return (lab.ruleset("host1"), lab.routes("host1"), lab.exec("host1", "ip", "-br", "link", check=True), len(lab.status("host1", "felix")["endpoints"]))
    # The table's text has an order (handles); a first round settles where a group's chains stand.
    before = [sorted(part.splitlines()) if isinstance(part, str) else part for part in state()]
    guest = attach_by_hand(lab, "host1", "visitor", "shop", {"app": "web"})
    during = lab.ruleset("host1")
    expect(guest.v4 in during and guest.v6 in during, "the visitor's addresses in the rules", during[:500])
    detach_by_hand(lab, guest, "shop")
    names = ("ruleset", "routes", "interfaces", "endpoints")
    last = [None]
    def same():
        last[0] = [sorted(part.splitlines()) if isinstance(part, str) else part for part in state()]
        return last[0] == before
    def difference():
        for name, was, now in zip(names, before, last[0]):
            if was != now:
                return f"{name} of host1 are as before; missing {[x for x in was if x not in now][:8]}, additional {[x for x in now if x not in was][:8]}" \
                    if isinstance(was, list) else f"{name}: {was}, now {now}"
        return "?"
    wait_until(difference, 3, same)
    # DEL again, and DEL of what never was: success, as the specification wants.
    for container in (guest.container, "0" * 64):
        output = attach_by_hand(lab, "host1", "visitor", "shop", {}, command="DEL", container=container)
        expect_equal(output.strip(), "", "the output of a DEL of nothing")
