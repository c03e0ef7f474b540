"""The short set, in order. Groups may be named on the command line; two labs are brought up for those that need one."""

import signal
import sys

import claims_addresses
import claims_cli
import claims_gateway
import claims_labs
import claims_restart
import claims_security
import claims_topologies
from claims import Claims
from labs import Lab

GROUPS = ["labs", "observers", "gateway", "security", "addresses", "restart", "errors", "interrupt", "topologies"]
# Groups that bring up what they need themselves.
ALONE = {"errors", "interrupt", "topologies"}


def main(words):
    for word in words:
        if word not in GROUPS:
            sys.exit(f"e2e: no group `{word}`; there are {', '.join(GROUPS)}")
    wanted = words or GROUPS
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    run = Claims()
    claim = run.claim
    a, b = Lab("a", "mesh"), Lab("b", "as-per-host")
    try:
        if set(wanted) - ALONE:
            run.heading(f"Two labs side by side: {a.name} (mesh), {b.name} (an AS for each host)")
            labs = claims_labs.Labs(a, b)
            if not claim("both come up", labs.up):
                return run.finish()
            claim("both have the same addresses inside, and each its own policies and traffic", labs.both_work)
        if "labs" in wanted:
            claim("their BGP is a mesh in one, a session for each AS in the other", labs.arrangements_differ)
            claim("a third lab of an existing name is refused", labs.name_taken)
        if "observers" in wanted:
            run.heading("Independent observers agree with margay")
            claim("nft: every rule of a policy names it, and every policy of the host is there", claims_labs.rules_name_their_policies, a)
            claim("nft: the counter that moves is that of the deciding rule", claims_labs.counters_move, a)
            for lab in (a, b):
                claim(f"ip route: proto 80 and 81 are what node status and lab status say ({lab.arrangement})", claims_labs.routes_agree, lab)
                claim(f"birdc show route: each host's blocks by way of it ({lab.arrangement})", claims_labs.rack_agrees, lab)
            claim("tcpdump: workloads' own addresses on plain Ethernet", claims_labs.wire_is_plain, a)
        if "gateway" in wanted:
            run.heading("The host answers for the gateway, and notices interfaces")
            claim("no host has a default route", claims_gateway.no_default_route, a)
            claim("neighbours flushed: arping and ndisc6 are answered by ee:ee:ee:ee:ee:ee, traffic goes on", claims_gateway.host_answers, a)
            claim("an interface renamed and named back", claims_gateway.rename_noticed, a)
            claim("an interface deleted and made again", claims_gateway.deletion_and_creation_noticed, a)
        if "security" in wanted:
            run.heading("A workload that plays by no rules")
            claims_security.steady()
            for text, body in (
                ("another's address: nothing at the receiver, nothing on the uplink", claims_security.spoofed_addresses),
                ("another's address inside an established flow: TCP, UDP, resets", claims_security.spoofed_in_established_flows),
                ("another's MAC address; ARP and neighbour claims", claims_security.mac_and_neighbour_claims),
                ("policy by IPv6, and addresses that nobody has", claims_security.both_families),
                ("policy by fragments: large, tiny, reversed, overlapping", claims_security.fragments),
                ("policy by protocol numbers that no rule lists", claims_security.unlisted_protocols),
                ("policy by IPv6 extension headers", claims_security.extension_headers),
                ("router advertisements and redirects", claims_security.advertisements_and_redirects),
                ("the host itself", claims_security.host_out_of_reach),
                ("an interface that felix does not know: nothing in, nothing out", claims_security.unknown_interface),
            ):
                claim(text, body, a)
        if "addresses" in wanted:
            run.heading("Addresses change hands")
            claim("no flow of an address is left on its host when DEL has returned", claims_addresses.no_flow_left_after_del, a)
            claim("a flow remembered by another host is of no use to the next holder", claims_addresses.remote_flows_are_not_inherited, a)
            claim("a new workload has no traffic before its policy is in the kernel", claims_addresses.silent_until_protected, a)
            claim("a workload that came and went leaves nothing behind", claims_addresses.nothing_remains_after_del, a)
        if "restart" in wanted:
            run.heading("Processes die")
            claim("every margay process killed and started again: mesh", claims_restart.killed_and_started, a)
            claim("SIGTERM ends a host's processes in order", claims_restart.stopped_in_order, a)
            claim("felix alone and bgp alone crash: the supervisor repairs it", claims_restart.one_daemon_crashes, a)
        if "errors" in wanted:
            run.heading("Errors that a user meets first")
            for kind in claims_cli.MISTAKES:
                claim(kind, claims_cli.mistakes_are_explained, kind)
            claim("one bad document: nothing is written", claims_cli.all_or_nothing)
            claim("a policy in a tier that does not exist", claims_cli.missing_tier)
            claim("datastores, files, kinds and labs that are not there", claims_cli.datastore_problems)
            claim("a user without rights is told so", claims_cli.not_root)
            if set(wanted) - ALONE:
                claim("status needs no root", claims_cli.lab_status_for_users, a)
        if set(wanted) - ALONE:
            run.heading("Ends")
            claim("`lab down` leaves nothing, and the other lab alone", claims_cli.torn_down, (a, b))
        if "interrupt" in wanted:
            run.heading("Ctrl-C during the demo")
            for moment, (word, condition) in claims_cli.MOMENTS.items():
                claim(moment, claims_cli.interrupted, word, condition)
            claim("SIGTERM while sessions come up", claims_cli.interrupted, "it", "margay node on each host", signal.SIGTERM)
            claim("kill -9 of the demo, then `lab down`", claims_cli.killed_demo)
        if "topologies" in wanted:
            run.heading("Topologies from files")
            claim("mistakes point into the file", claims_topologies.mistakes_point_into_the_file)
            claim("a dry run makes nothing", claims_topologies.dry_run_makes_nothing)
            for name in claims_topologies.examples():
                claim(f"Examples/{name}.yaml comes up, works, and goes", claims_topologies.comes_up_and_goes, name)
            claim("Ctrl-C while one comes up", claims_topologies.interrupted_up)
    finally:
        for lab in (a, b):
            lab.down()
    return run.finish()


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
