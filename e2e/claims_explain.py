"""`margay explain`: its answer, against real packets and against the kernel's counters."""

import json
import re

from claims import expect, expect_equal, wait_until
from labs import MARGAY, margay
from traffic import Echo, ping, tcp_reaches, udp_echo

TCP_PORTS, UDP_PORTS = [80, 9999], [53, 9999]


def explain(lab, source, destination, *words, check=None):
    output = margay("explain", "--from", source, "--to", destination, "-o", "json", *words, "--datastore", lab.datastore)
    expect(output.code in (0, 1), f"an answer to {source} → {destination} {words}", f"exit code {output.code}: {output}")
    document = json.loads(output)
    expect_equal(output.code, 0 if document["verdict"] == "allow" else 1, f"the exit code with verdict {document['verdict']}")
    return document


def _reaches(kind, port, source, destination, family, expecting):
    wait = 2 if expecting else 0.25
    address = destination.address(family)
    if kind == "icmp":
        return ping(source.namespace, address, wait)
    if kind == "tcp":
        return bool(tcp_reaches(source.namespace, address, port, wait))
    return bool(udp_echo(source.namespace, address, port, b"margay", wait))


def cells_agree(lab):
    """Every pair of four workloads, every service, both families: the verdict is what packets do."""
    loads = lab.workloads()
    names = [name for name in ("client-1", "web-1", "db-1", "intruder-1") if name in loads] or sorted(loads)[:4]
    count = allowed = 0
    for target in names:
        destination = loads[target]
        with Echo(destination.namespace, tcp=TCP_PORTS, udp=UDP_PORTS):
            for name in names:
                if name == target:
                    continue
                for kind, port in [("icmp", None)] + [("tcp", port) for port in TCP_PORTS] + [("udp", port) for port in UDP_PORTS]:
                    words = ["--protocol", kind] + (["--port", str(port)] if port else [])
                    for answer in explain(lab, name, target, *words)["families"]:
                        family = 4 if answer["family"] == "IPv4" else 6
                        expected = answer["verdict"] == "allow"
                        seen = _reaches(kind, port, loads[name], destination, family, expected)
                        expect(seen == expected, f"{name} → {target} {kind} {port or ''} IPv{family} to be {answer['verdict']} ({answer['because']})", seen)
                        count += 1
                        allowed += expected
    expect(0 < allowed < count, "some cells allowed and some denied", f"{allowed} of {count}")
    return f"{count} cells, {allowed} allowed"


def _deciding(document, family, direction):
    """The step that decided on one side, with its counters."""
    answer = next(a for a in document["families"] if a["family"] == f"IPv{family}")
    side = next(s for s in answer["sides"] if s["direction"] == direction)
    steps = [step for tier in side["tiers"] for policy in tier["policies"] for step in policy["steps"]]
    steps += [tier["end"] for tier in side["tiers"] if tier["end"]] + [step for profile in side["profiles"] for step in profile["steps"]]
    return [step for step in steps if step["outcome"] in ("allowed", "denied")][-1]


def counters_agree(lab):
    """Run on the host in question, --counters names the rule whose counter the probe moves, by exactly one packet."""
    loads = lab.workloads()
    client, web = loads["client-1"], loads["web-1"]

    def packets(family, port, direction):
        place = web.host if direction == "Ingress" else client.host
        output = margay(
            "lab", "exec", "--name", lab.name, place, "--", MARGAY, "explain", "--from", "client-1", "--to", "web-1", "--port", str(port),
            "--family", str(family), "--counters", "-o", "json")
        expect(output.code in (0, 1), "an answer with counters", output)
        step = _deciding(json.loads(output), family, direction)
        expect("counters" in step, f"counters of {step['reason']}", output[:2000])
        return step["counters"]["packets"], step

    with Echo(web.namespace, tcp=[80, 9999]):
        for family in (4, 6):
            for direction in ("Egress", "Ingress"):
                before, step = packets(family, 80, direction)
                expect(tcp_reaches(client.namespace, web.address(family), 80, 2), f"client-1 to reach web-1:80 (IPv{family})")
                after, _ = packets(family, 80, direction)
                expect_equal(after - before, 1, f"packets at {step['reason']} (IPv{family}, {direction})")
            before, step = packets(family, 9999, "Ingress")
            expect(step["outcome"] == "denied", "web-1:9999 to be denied", step)
            other, _ = packets(family, 80, "Ingress")
            expect(not tcp_reaches(client.namespace, web.address(family), 9999, 0.3), f"client-1 not to reach web-1:9999 (IPv{family})")
            wait_until("the denying rule counts", 2, lambda: packets(family, 9999, "Ingress")[0] > before)
            expect_equal(packets(family, 80, "Ingress")[0], other, "packets at the rule for port 80 meanwhile")
    return step["counters"]["rules"][0]["text"]


def elsewhere_is_said(lab):
    """On another host the counters are not there, and explain says where they are."""
    loads = lab.workloads()
    web = loads["web-1"]
    other = next(host for host in ("host1", "host2", "host3") if host not in (web.host, loads["client-1"].host))
    output = margay("lab", "exec", "--name", lab.name, other, "--", MARGAY, "explain", "--from", "client-1", "--to", "web-1", "--port", "80", "--counters")
    expect(output.code == 0, "exit code 0", f"{output.code}: {output}")
    expect(re.search(rf"in the kernel of {web.host}; ask there", output), f"that the counters are on {web.host}", output)


def questions_without_answer(lab):
    for words, pattern in (
        (("--from", "cleint-1", "--to", "web-1"), r"cleint-1.*did you mean shop/client-1"),
        (("--from", "client-1", "--to", "host1"), r"node/host1"),
        (("--from", "client-1", "--to", "web-1", "--protocol", "tcp"), r"--port"),
        (("--from", "client-1", "--to", "web-1", "--protocol", "tpc", "--port", "80"), r"tpc.*tcp"),
    ):
        output = margay("explain", *words, "--datastore", lab.datastore)
        expect(output.code == 2, f"exit code 2 of `explain {' '.join(words)}`", f"{output.code}: {output}")
        expect(re.search(pattern, output), f"/{pattern}/", output)


def unprivileged(lab):
    """A user without rights gets the answer, and is told what --counters needs."""
    words = ["--from", "client-1", "--to", "web-1", "--port", "80", "--datastore", lab.datastore]
    output = margay("explain", *words)
    expect(output.code == 0 and output.startswith("allowed"), "allowed, exit code 0", f"{output.code}: {output}")
    return output.splitlines()[0]


def log_only_is_warned_of():
    document = (
        "apiVersion: projectcalico.org/v3\nkind: GlobalNetworkPolicy\nmetadata: {name: watch}\nspec:\n  selector: all()\n  ingress:\n"
        "    - action: Log\n")
    output = margay("validate", "-f", "-", input=document)
    expect(output.code == 0, "exit code 0: it is no error", f"{output.code}: {output}")
    expect(re.search(r"warning: .*:6.*spec\.ingress.*only logs.*denied", output), "a warning with its place", output)
    return output.splitlines()[0]
