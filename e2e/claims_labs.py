"""Labs side by side, and what independent observers say of one."""

import json
import re

from claims import expect, expect_equal, wait_until
from labs import HERE, HOSTS, MARGAY, Background, Capture, margay
from traffic import Echo, tcp_reaches


def policies():
    with open(f"{HERE}/policies.yaml") as file:
        return file.read()


class Labs:
    """Lab `a` (mesh) has the policies of policies.yaml, lab `b` (an AS for each host) none."""

    def __init__(self, a, b):
        self.a, self.b = a, b

    def up(self):
        running = [Background(MARGAY, "lab", "up", "--name", lab.name, "--arrangement", lab.arrangement) for lab in (self.a, self.b)]
        for background in running:
            code = background.wait(90)
            expect(code == 0, "`margay lab up` to succeed", f"exit code {code}: {background.text[-2000:]}")

    def both_work(self):
        for lab in (self.a, self.b):
            for host in HOSTS:
                expect(lab.bgp_established(host), f"every BGP session of {lab.name} {host} established", json.dumps(lab.status(host, "bgp"))[:800])
        seen = [{name: self.a.exec(name, "ip", "-br", "address", "show", "dev", "eth0", check=True) for name in HOSTS}]
        seen.append({name: self.b.exec(name, "ip", "-br", "address", "show", "dev", "eth0", check=True) for name in HOSTS})
        for name in HOSTS:
            inner = [re.findall(r"(172\.30\.\d+\.\d+/24|fd30:\S+)", one[name]) for one in seen]
            expect_equal(inner[0], inner[1], f"{name}'s addresses in both labs")
            expect(len(inner[0]) == 2, f"two underlay addresses on {name}", seen[0][name])
        self.a.apply(policies())
        texts = []
        for lab in (self.a, self.b):
            last = [""]
            def matrix_is_right():
                last[0] = margay("lab", "traffic", "--name", lab.name, seconds=30)
                return last[0].code == 0
            wait_until(lambda: f"the traffic of {lab.name} is as the oracle expects: {last[0][-2500:]}", 8, matrix_is_right)
            texts.append(last[0])
        # Different policies, so different answers: neither lab sees the other's datastore.
        expect(texts[0] != texts[1], "different matrices in labs with different policies", texts[0][:400])
        expect("·" in texts[0].split("\n", 1)[1] and "·" not in texts[1].split("\n", 1)[1], "refusals in the first lab only", texts[1])

    def arrangements_differ(self):
        asns = {}
        for lab in (self.a, self.b):
            sessions = [s for host in HOSTS for s in lab.status(host, "bgp")["sessions"]]
            asns[lab.name] = (len(sessions), sorted({s["localAS"] for s in sessions}), sorted({s["peerAS"] for s in sessions}))
        expect_equal(asns[self.a.name], (18, [64512], [64512]), "mesh: number of sessions, local and peer AS numbers")
        expect_equal(asns[self.b.name], (6, [65001, 65002, 65003], [65000]), "one AS per host: sessions, local and peer AS numbers")

    def name_taken(self):
        before = self.a.record()
        output = self.a.up()
        expect(output.code not in (0, 130), "an exit code other than 0", output.code)
        expect(self.a.name in output and re.search(r"exists|stands", output) and "lab down" in output,
               "a message naming the lab and `lab down`", output)
        expect_equal(self.a.record(), before, "the record of the standing lab")
        expect(self.a.bgp_established("host1"), "the standing lab to be untouched")
        for word in ("", "UPPER", "a-b", "a" * 21, "../x"):
            output = margay("lab", "up", "--name", word)
            expect(output.code != 0 and "name" in output, f"`lab up --name '{word}'` to be refused with a message", f"{output.code}: {output}")


# What the objects of policies.yaml and the lab's profiles must have put into each host's kernel: rule numbers by direction.
_WEB = {("NetworkPolicy shop/web", "ingress"): 4}
_DB = {("NetworkPolicy shop/database", "ingress"): 1, ("NetworkPolicy shop/database", "egress"): 2}
_GUARD = {("GlobalNetworkPolicy quarantine", "ingress"): 1, ("GlobalNetworkPolicy quarantine", "egress"): 2}
POLICY_RULES = {"host1": _WEB, "host2": _WEB, "host3": {**_DB, **_GUARD}}
COMMENT = re.compile(r"^((?:NetworkPolicy|GlobalNetworkPolicy|Profile) \S+) (ingress|egress) rule (\d+)")


def rules_name_their_policies(lab):
    total = 0
    for host in HOSTS:
        found = set()
        for entry in lab.rules(host):
            rule = entry.get("rule")
            if not rule:
                continue
            total += 1
            comment, chain = rule.get("comment", ""), rule["chain"]
            match = COMMENT.match(comment)
            if match:
                found.add((match[1], match[2], int(match[3])))
            if re.match(r"(policy|profile)-", chain):
                expect(match, f"{host}: every rule of chain {chain} to name its policy, direction and rule", f"comment {comment!r}")
                name = match[1].split(" ")[1]
                expect(chain.endswith(name), f"{host}: the comment in chain {chain} to name the chain's own policy", comment)
            verdicts = [list(e)[0] for e in rule["expr"] if isinstance(e, dict) and list(e)[0] in ("drop", "reject")]
            expect(not verdicts or comment, f"{host}: every dropping rule to say why", json.dumps(rule))
        expected = {(name, way, number + 1) for (name, way), count in POLICY_RULES[host].items() for number in range(count)}
        policies_found = {entry for entry in found if not entry[0].startswith("Profile ")}
        expect_equal(policies_found, expected, f"{host}: the policy rules named in `nft list ruleset`")
    return f"{total} rules on {len(HOSTS)} hosts"


def _counter(lab, host, comment):
    """Packets counted by the rules with that comment."""
    total = 0
    for entry in lab.rules(host):
        rule = entry.get("rule")
        if rule and rule.get("comment", "") == comment:
            total += sum(e["counter"]["packets"] for e in rule["expr"] if isinstance(e, dict) and "counter" in e)
    return total


def counters_move(lab):
    """The rule whose comment names it is the one that decides."""
    loads = lab.workloads()
    web, client = loads["web-1"], loads["client-1"]
    allow, deny = "NetworkPolicy shop/web ingress rule 1", "tier default: no policy decides, deny"
    with Echo(web.namespace, tcp=[80, 9999]):
        for family in (4, 6):
            before = _counter(lab, "host1", allow), _counter(lab, "host1", deny)
            expect(tcp_reaches(client.namespace, web.address(family), 80, 2), f"client-1 to reach web-1:80 (IPv{family})")
            between = _counter(lab, "host1", allow), _counter(lab, "host1", deny)
            expect(between == (before[0] + 1, before[1]), f"one packet more at `{allow}` only (IPv{family})", f"{before} → {between}")
            expect(not tcp_reaches(client.namespace, web.address(family), 9999, 0.3), f"client-1 not to reach web-1:9999 (IPv{family})")
            after = _counter(lab, "host1", allow), _counter(lab, "host1", deny)
            expect(after[0] == between[0] and after[1] > between[1], f"packets more at `{deny}` only (IPv{family})", f"{between} → {after}")


def routes_agree(lab):
    """`ip route` proto 80 and 81 against `margay node status --json`, both ways, on every host."""
    count = 0
    for host in HOSTS:
        directory = f"{lab.directory}/{host}"
        output = margay("node", "status", "--json", "--run-dir", directory, check=True)
        document = json.loads(output)
        felix, bgp = document["felix"], document["bgp"]
        kernel = {80: set(), 81: set(), "black": set()}
        for family in ("-4", "-6"):
            for route in lab.json(host, "ip", "-j", family, "route", "show", "table", "main"):
                protocol = route.get("protocol")
                if protocol not in ("80", "81"):
                    continue
                prefix = route["dst"] if "/" in route["dst"] else route["dst"] + ("/32" if family == "-4" else "/128")
                if protocol == "81":
                    kernel[81].add((prefix, route["gateway"], route["dev"]))
                elif route.get("type") == "blackhole":
                    kernel["black"].add(prefix)
                else:
                    kernel[80].add((prefix, route["dev"]))
        wanted = {(a + ("/128" if ":" in a else "/32"), e["interface"]) for e in felix["endpoints"] for a in e["addresses"]}
        expect_equal(kernel[80], wanted, f"{host}: `ip route` proto 80 to workloads")
        local = {r["prefix"] for r in bgp["routes"] if r["from"] == "local"}
        expect_equal(kernel["black"] | {prefix for prefix, _ in kernel[80]}, local, f"{host}: proto 80 of `ip route` and what BGP calls local")
        learned = {r["prefix"]: r["nextHop"] for r in bgp["routes"] if r["from"] != "local" and r["best"] and r["installed"]}
        expect_equal({prefix for prefix, _, _ in kernel[81]}, set(learned), f"{host}: `ip route` proto 81")
        # A learned next hop is reached through the rack router in this lab, whoever told of it.
        router = {4: f"172.30.{host[-1]}.1", 6: f"fd30:0:0:{host[-1]}::1"}
        for prefix, gateway, device in kernel[81]:
            family = 6 if ":" in prefix else 4
            expect_equal((gateway, device), (router[family], "eth0"), f"{host}: the way to {prefix} (learned next hop {learned[prefix]})")
        blocks = {other: lab_blocks(lab, other) for other in HOSTS if other != host}
        expect_equal(set(learned), set().union(*blocks.values()), f"{host}: learned prefixes, against the other hosts' blocks")
        for other, prefixes in blocks.items():
            for prefix in prefixes:
                hop = {4: f"172.30.{other[-1]}.2", 6: f"fd30:0:0:{other[-1]}::2"} if lab.arrangement == "mesh" else router
                expect_equal(learned[prefix], hop[6 if ":" in prefix else 4], f"{host}: BGP next hop of {prefix}, a block of {other}")
        text = margay("node", "status", "--run-dir", directory, check=True)
        for prefix in learned:
            expect(prefix in text, f"`margay node status` to show {prefix}", text)
        count += sum(map(len, kernel.values()))
    lab_text = margay("lab", "status", "--name", lab.name, check=True)
    for workload in lab.workloads().values():
        for address in (workload.v4, workload.v6):
            expect(re.search(rf"{re.escape(address)}\b", lab_text), f"`margay lab status` to show {workload.name}'s {address}", lab_text)
    return f"{count} routes"


def lab_blocks(lab, host):
    """The blackhole routes of a host: the blocks it holds."""
    return {route["dst"] for family in ("-4", "-6") for route in lab.json(host, "ip", "-j", family, "route", "show", "type", "blackhole")}


def rack_agrees(lab):
    """`birdc show route` has each host's blocks by way of that host, and the rack's kernel forwards accordingly."""
    text = lab.birdc("show", "route")
    seen, prefix = {}, None
    for line in text.splitlines():
        match = re.match(r"(\S+/\d+)\s+unicast \[(\S+) ", line)
        if match:
            prefix, source = match[1], match[2]
            if source.startswith("host"):
                seen.setdefault(prefix, [source.split("_")[0], None])
            else:
                prefix = None
        hop = re.match(r"\s+via (\S+) on (\S+)", line)
        if hop and prefix and seen[prefix][1] is None:
            seen[prefix][1] = (hop[1], hop[2])
    expected = {}
    for host in HOSTS:
        blocks = lab_blocks(lab, host)
        expect(len(blocks) >= 2, f"{host} to hold a block of each family", blocks)
        for block in blocks:
            hop = f"fd30:0:0:{host[-1]}::2" if ":" in block else f"172.30.{host[-1]}.2"
            expected[block] = [host, (hop, host)]
    pools = {prefix: value for prefix, value in seen.items() if prefix.startswith(("10.65.", "fd65:"))}
    expect_equal(pools, expected, "routes of BIRD on the rack")
    kernel = {}
    for family in ("-4", "-6"):
        for route in lab.json("rack", "ip", "-j", family, "route", "show", "proto", "bird"):
            kernel[route["dst"]] = (route["gateway"], route["dev"])
    expect_equal({p: hop for p, hop in kernel.items() if p in expected}, {p: hop for p, (_, hop) in expected.items()}, "the rack's kernel routes")
    return f"{len(expected)} blocks"


def wire_is_plain(lab):
    """On the rack's links: the workloads' own addresses, on plain Ethernet, nothing around them."""
    loads = lab.workloads()
    client, web = loads["client-1"], loads["web-1"]
    for family in (4, 6):
        source, destination = client.address(family), web.address(family)
        # Neither `host` nor `port` would match inside a tunnel, so the expression takes everything but the underlay's own talk.
        captures = [
            Capture(lab.namespace("rack"), link,
                    "not tcp port 179 and not arp and not (icmp6 and ip6[40] >= 130 and ip6[40] <= 137) and not ip6[6] == 0", "-v")
            for link in ("host1", "host2")]
        try:
            with Echo(web.namespace, tcp=[80]):
                expect(tcp_reaches(client.namespace, destination, 80, 2), f"client-1 to reach web-1:80 (IPv{family})")
            for capture in captures:
                wait_until(lambda: f"tcpdump shows {source} → {destination}.80: {capture.text[-800:]}", 5,
                           lambda: f"{source}." in capture.text and f"{destination}.80" in capture.text)
        finally:
            for capture in captures:
                capture.end()
        for capture in captures:
            for word in ("172.30.", "fd30:", "VXLAN", "IPIP", "GRE", "4789", "ipip", "proto IPIP"):
                expect(word not in capture.text.split("listening on", 1)[1], f"no `{word}` around a workload's packet (IPv{family})", capture.text[-1200:])
            kind = "ethertype IPv4 (0x0800)" if family == 4 else "ethertype IPv6 (0x86dd)"
            frames = [line for line in capture.lines if "ethertype" in line]
            expect(frames and all(kind in line for line in frames), f"only {kind} frames", capture.text[-1200:])
