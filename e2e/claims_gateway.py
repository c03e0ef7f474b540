"""The host answers for the workload's gateway, and notices at once what happens to interfaces."""

import re
import time

from claims import expect, expect_equal, wait_until
from labs import HOSTS, attach_by_hand, detach_by_hand, margay, run
from traffic import Echo, ping, tcp_reaches

MAC = "ee:ee:ee:ee:ee:ee"
GATEWAY6 = "fe80::ecee:eeff:feee:eeee"


def no_default_route(lab):
    for host in HOSTS:
        for family in ("-4", "-6"):
            output = lab.exec(host, "ip", family, "route", "show", "table", "all", check=True)
            expect(not re.search(r"^(default|0\.0\.0\.0/0|::/0)", output, re.M), f"no default route on {host}", output)


def _neighbours(workload):
    return run("ip", "netns", "exec", workload.namespace, "ip", "neigh", "show", "dev", "eth0", check=True)


def _flush(workload):
    """All of them: `ip neigh flush` leaves permanent entries alone, so each is deleted by name."""
    for line in _neighbours(workload).splitlines():
        run("ip", "netns", "exec", workload.namespace, "ip", "neigh", "del", line.split()[0], "dev", "eth0")
    left = [line for line in _neighbours(workload).splitlines() if "lladdr" in line]
    expect(not left, "no neighbour left in the workload", left)


def host_answers(lab):
    loads = lab.workloads()
    client, target = loads["client-1"], loads["web-1"]
    _flush(client)
    output = run("ip", "netns", "exec", client.namespace, "arping", "-c", "1", "-i", "eth0", "169.254.1.1", seconds=10)
    expect(output.code == 0 and MAC in output.lower(), f"arping of 169.254.1.1 to be answered by {MAC}", output)
    output = run("ip", "netns", "exec", client.namespace, "ndisc6", "-1", "-r", "1", GATEWAY6, "eth0", seconds=10)
    expect(output.code == 0 and MAC in output.lower(), f"ndisc6 of {GATEWAY6} to be answered by {MAC}", output)
    # Nobody else is at home there: the host must not answer for just any address (it would hide a wrong route for ever).
    _flush(client)
    for address in (target.v4, target.v6):
        expect(ping(client.namespace, address, 2), f"client-1 to reach web-1 at {address} after its neighbours were flushed")
    learned = _neighbours(client)
    for gateway in ("169.254.1.1", GATEWAY6):
        line = next((line for line in learned.splitlines() if line.startswith(gateway + " ")), "")
        expect(MAC in line and "PERMANENT" not in line, f"{gateway} learned anew as {MAC}", learned)
    with Echo(target.namespace, tcp=[80]):
        for address in (target.v4, target.v6):
            expect(tcp_reaches(client.namespace, address, 80, 2), f"TCP to {address} after the flush")


def _within_a_second(lab, host, interface, state, words):
    started = time.monotonic()
    seen = [None]
    def noticed():
        status = lab.status(host, "felix")
        seen[0] = [e for e in status["endpoints"] if e["interface"] == interface] if status else None
        return bool(seen[0]) and seen[0][0]["state"] == state and (words is None or words in (seen[0][0]["problem"] or ""))
    wait_until(lambda: f"felix says that {interface} is {state}; it says {seen[0]}", 1, noticed, pause=0.002)
    return (time.monotonic() - started) * 1000


def rename_noticed(lab):
    loads = lab.workloads()
    web, client = loads["web-1"], loads["client-1"]
    interface = lab.interface(web)
    expect_equal(lab.endpoint("host1", interface)["state"], "up", f"the state of {interface}")
    lab.exec("host1", "ip", "link", "set", interface, "name", "elsewhere", check=True)
    try:
        gone = _within_a_second(lab, "host1", interface, "pending", interface)
        text = margay("node", "status", "--run-dir", f"{lab.directory}/host1")
        expect(re.search(rf"{interface}.*pending", text), "`margay node status` to say pending", text)
        # Its routes went with the name: nothing is sent to an interface that felix does not know.
        wait_until(lambda: f"no proto 80 route leads through the renamed interface: {lab.routes('host1')}", 1,
                   lambda: not any("elsewhere" in line and "proto 80" in line for line in lab.routes("host1")))
    finally:
        lab.exec("host1", "ip", "link", "set", "elsewhere", "name", interface, check=True)
    back = _within_a_second(lab, "host1", interface, "up", None)
    with Echo(web.namespace, tcp=[80]):
        for address in (web.v4, web.v6):
            wait_until(f"client-1 reaches web-1 at {address} again", 3, lambda: tcp_reaches(client.namespace, address, 80, 0.3))
    return f"away after {gone:.0f} ms, back after {back:.0f} ms"


def deletion_and_creation_noticed(lab):
    guest = attach_by_hand(lab, "host1", "passenger", "shop", {"app": "web"})
    client = lab.workloads()["client-1"]
    try:
        interface = lab.interface(guest)
        expect_equal(lab.endpoint("host1", interface)["state"], "up", f"the state of {interface} when ADD has returned")
        mac = run("ip", "netns", "exec", guest.namespace, "cat", "/sys/class/net/eth0/address", check=True).strip()
        lab.exec("host1", "ip", "link", "delete", interface, check=True)
        gone = _within_a_second(lab, "host1", interface, "pending", interface)
        expect(not any(guest.v4 in line.split() for line in lab.routes("host1")), f"no route to {guest.v4} any more", lab.routes("host1"))
        # The same cable made again, by hand and with nothing on it: everything the host's end needs is felix's to give.
        lab.exec("host1", "ip", "link", "add", interface, "type", "veth", "peer", "name", "eth0", "netns", guest.namespace, check=True)
        inside = ["ip", "netns", "exec", guest.namespace, "ip"]
        run(*inside, "link", "set", "eth0", "address", mac, check=True)
        lab.exec("host1", "ip", "link", "set", interface, "address", MAC, check=True)
        lab.exec("host1", "ip", "link", "set", interface, "up", check=True)
        run(*inside, "link", "set", "eth0", "up", check=True)
        made = _within_a_second(lab, "host1", interface, "up", None)
        run(*inside, "address", "add", guest.v4 + "/32", "dev", "eth0", check=True)
        run(*inside, "address", "add", guest.v6 + "/128", "dev", "eth0", "nodad", check=True)
        run(*inside, "route", "add", "169.254.1.1", "dev", "eth0", "scope", "link", check=True)
        run(*inside, "route", "add", "default", "via", "169.254.1.1", "dev", "eth0", check=True)
        run(*inside, "-6", "route", "add", "default", "via", GATEWAY6, "dev", "eth0", check=True)
        with Echo(guest.namespace, tcp=[80]):
            for address in (guest.v4, guest.v6):
                wait_until(f"client-1 reaches the remade workload at {address}", 5, lambda: tcp_reaches(client.namespace, address, 80, 0.5))
    finally:
        detach_by_hand(lab, guest, "shop")
    expect(lab.endpoint("host1", interface) is None, "no endpoint after DEL", lab.endpoint("host1", interface))
    return f"gone after {gone:.0f} ms, made after {made:.0f} ms"
