"""Every margay process dies and comes again: traffic, rules and routes do not notice."""

import os
import re
import signal
import time

from claims import Claim, expect, expect_equal, wait_until
from labs import HOSTS, MARGAY, Background, margay, processes_of
from traffic import Echo, Flows


def _flows(lab):
    loads = lab.workloads()
    flows = Flows()
    for family in (4, 6):
        for name in ("client-1", "client-2"):
            flows.add("tcp", loads[name], loads["web-1"].address(family), 80)
            flows.add("udp", loads[name], loads["web-2"].address(family), 5000)
            flows.add("icmp", loads[name], loads["client-1" if name == "client-2" else "web-1"].address(family))
        flows.add("tcp", loads["web-1"], loads["db-1"].address(family), 5432)
        flows.add("tcp", loads["web-2"], loads["db-1"].address(family), 5432)
    return flows


def _kernel(lab):
    return {host: (lab.ruleset(host), lab.routes(host)) for host in HOSTS}


def _compare(before, after, when):
    for host in HOSTS:
        for what, was, now in zip(("nft list ruleset", "routes of all tables"), before[host], after[host]):
            if was == now:
                continue
            was, now = (was.splitlines(), now.splitlines()) if isinstance(was, str) else (was, now)
            raise Claim(f"{when}: `{what}` of {host} differs: gone {[x for x in was if x not in now][:6]}, new {[x for x in now if x not in was][:6]}"
                        + ("" if sorted(was) != sorted(now) else " (the order only)"))


# Neighbours that the kernel learns by itself, on the underlay and by workloads' own link-local addresses, come and go with traffic. What
# Margay enters is permanent.
_LEARNED = re.compile(r"^\[NEIGH\](Deleted )?(\S+ dev eth0 |fe80::\S+ dev cali)(?!.*PERMANENT)")


def killed_and_started(lab):
    loads = lab.workloads()
    with Echo(loads["web-1"].namespace, tcp=[80]), Echo(loads["web-2"].namespace, udp=[5000]), Echo(loads["db-1"].namespace, tcp=[5432]):
        flows = _flows(lab)
        monitors = {}
        try:
            flows.start()
            # What the start of the lab and of flows moves in the kernel must be over: counters aside, nothing changes while nothing happens.
            before = _kernel(lab)
            wait_until("the kernels are at rest", 5, lambda: (again := _kernel(lab)) == before or before.update(again), pause=0.2)
            for host in HOSTS:
                enter = ["ip", "netns", "exec", lab.namespace(host)]
                monitors[host] = (Background(*enter, "ip", "monitor", "label", "link", "address", "route", "neigh", "rule"), Background(*enter, "nft", "monitor"))
            _monitors_listen(lab, monitors)
            marks = {host: [len(m.lines) for m in monitors[host]] for host in HOSTS}
            killed = {}
            for host in HOSTS:
                output = margay("lab", "kill", "--name", lab.name, host, check=True)
                killed[host] = int(re.search(r"killed (\d+)", output)[1])
            expect_equal(killed, {host: 4 for host in HOSTS}, "processes killed on each host: the supervisor, felix, bgp and controllers")
            left = [line for _, line in processes_of(lab.name) if "margay" in line and "bird" not in line and "monitor" not in line]
            expect(not left, "no margay process of the lab alive", left)
            # The peers must have noticed: BIRD keeps the routes because of graceful restart, not because it has not looked.
            wait_until(lambda: f"BIRD has seen its sessions end: {lab.birdc('show', 'protocols')}", 5,
                       lambda: "Established" not in lab.birdc("show", "protocols"))
            answered = {flow.name: len(flow.answered) for flow in flows.flows}
            wait_until("every flow goes on without any margay process", 5,
                       lambda: all(len(flow.answered) > answered[flow.name] + 100 for flow in flows.flows))
            _compare(before, _kernel(lab), "all processes killed")
            problems = [f"{flow.name}: {flow.problem}" for flow in flows.flows if flow.problem]
            expect(not problems, "no flow broken while all are dead", problems)
            again = time.monotonic()
            starting = [Background(MARGAY, "lab", "start", "--name", lab.name, host) for host in HOSTS]
            for one in starting:
                code = one.wait(60)
                expect(code == 0, "`margay lab start` to succeed", one.text[-1500:])
            sessions = time.monotonic() - again
            wait_until("every bgp has finished its restart", 60, lambda: all((lab.status(host, "bgp") or {}).get("isDeferring") is False for host in HOSTS))
            wait_until("every felix is in sync", 20, lambda: all((lab.status(host, "felix") or {}).get("inSync") for host in HOSTS))
            settled = time.monotonic() - again
            answered = {flow.name: len(flow.answered) for flow in flows.flows}
            wait_until("every flow goes on", 5, lambda: all(len(flow.answered) > answered[flow.name] + 100 for flow in flows.flows))
            sent, lost = flows.finish()
            changes = {host: (lab.status(host, "felix")["kernelChanges"], lab.status(host, "bgp")["kernelChanges"]) for host in HOSTS}
            _compare(before, _kernel(lab), "all started again")
        finally:
            flows.stopping.set()
            texts = {host: [m.end().split("\n") for m in pair] for host, pair in monitors.items()}
    expect(not lost, f"none of {sent} requests lost", "; ".join(lost[:6]))
    expect_equal(changes, {host: (0, 0) for host in HOSTS}, "changes that felix and bgp count on each host")
    for host in HOSTS:
        routes, rules = (text[mark:] for text, mark in zip(texts[host], marks[host]))
        strange = [line for line in routes if line.strip() and not _LEARNED.match(line)]
        expect(not strange, f"`ip monitor` on {host} to see nothing", strange[:8])
        # Taking a table over from a dead owner is told as the table itself, unchanged.
        strange = [line for line in rules if line.strip() and not re.match(r"(add table inet margay|# new generation)", line.strip())]
        expect(not strange, f"`nft monitor` on {host} to see nothing but the table taken over", strange[:8])
    return f"{sent} requests, none lost, no change counted; sessions again after {sessions:.1f} s, routes settled after {settled:.1f} s"


def stopped_in_order(lab):
    """SIGTERM of the supervisor: everything of the host ends by itself, the kernel stays, and the next start finds it right."""
    before = _kernel(lab)
    pids = [int(line.split()[1]) for line in open(f"{lab.directory}/host2/node.pids").read().splitlines()]
    supervisor = pids[0]
    started = time.monotonic()
    os.kill(supervisor, signal.SIGTERM)
    wait_until(lambda: f"all of {pids} have ended", 5, lambda: not any(_runs(pid) for pid in pids))
    took = time.monotonic() - started
    log = open(f"{lab.directory}/host2.log").read().splitlines()[-60:]
    expect(any("stopping" in line for line in log), "the supervisor to say that it stops", log)
    expect(not os.path.exists(f"{lab.directory}/host2/node.pids"), "the file of process ids to be gone")
    for name in ("felix.sock", "bgp.sock", "controllers.sock"):
        expect(not os.path.exists(f"{lab.directory}/host2/{name}"), f"{name} to be gone: an end in order tidies up")
    _compare(before, _kernel(lab), "stopped by SIGTERM")
    margay("lab", "start", "--name", lab.name, "host2", check=True, seconds=60)
    wait_until("bgp has finished its restart", 30, lambda: (lab.status("host2", "bgp") or {}).get("isDeferring") is False)
    changes = (lab.status("host2", "felix")["kernelChanges"], lab.status("host2", "bgp")["kernelChanges"])
    expect_equal(changes, (0, 0), "changes that felix and bgp count after the start")
    _compare(before, _kernel(lab), "started again")
    return f"ended after {took * 1000:.0f} ms"


def _runs(pid):
    try:
        return open(f"/proc/{pid}/stat").read().rsplit(")", 1)[1].split()[0] != "Z"
    except OSError:
        return False


def _monitors_listen(lab, monitors):
    """Each monitor has shown a change that we make: from here on silence means that nothing happened."""
    for host, (links, rules) in monitors.items():
        def change():
            lab.exec(host, "ip", "link", "add", "probe0", "type", "veth", "peer", "name", "probe1")
            lab.exec(host, "ip", "link", "delete", "probe0")
            lab.exec(host, "nft", "add", "table", "inet", "probe")
            lab.exec(host, "nft", "delete", "table", "inet", "probe")
            return "Deleted" in links.text and "probe0" in links.text and "delete table inet probe" in rules.text
        wait_until(f"monitors on {host} listen", 5, change, pause=0.05)
        last = [None]
        def settled():
            now = (len(links.lines), len(rules.lines))
            same, last[0] = now == last[0], now
            return same
        wait_until(f"monitors on {host} have told the probe's changes", 3, settled, pause=0.2)


def one_daemon_crashes(lab):
    """felix alone, bgp alone: the supervisor starts the one that died, and the kernel is as it was."""
    for host in HOSTS:
        if lab.status(host, "felix") is None:
            margay("lab", "start", "--name", lab.name, host, seconds=60)
    before = _kernel(lab)
    for name in ("felix", "bgp"):
        pids = dict(line.split() for line in open(f"{lab.directory}/host2/node.pids").read().splitlines())
        old, other = pids[name], pids["bgp" if name == "felix" else "felix"]
        os.kill(int(old), signal.SIGKILL)
        def again():
            now = dict(line.split() for line in open(f"{lab.directory}/host2/node.pids").read().splitlines())
            return now.get(name) not in (None, old) and now.get("bgp" if name == "felix" else "felix") == other
        wait_until(f"the supervisor has started {name} again, and nothing else", 5, again)
        wait_until(f"{name} answers", 10, lambda: lab.status("host2", name) is not None)
        if name == "felix":
            wait_until("felix is in sync", 10, lambda: (lab.status("host2", "felix") or {}).get("inSync"))
        else:
            wait_until("sessions are established and routes settled", 60,
                       lambda: lab.bgp_established("host2") and lab.status("host2", "bgp")["isDeferring"] is False)
        expect_equal(lab.status("host2", name)["kernelChanges"], 0, f"changes counted by the new {name}")
    _compare(before, _kernel(lab), "after the crashes")
