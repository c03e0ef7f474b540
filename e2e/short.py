"""The short set, in order. Groups may be named on the command line; two labs are brought up for those that need one."""

import signal
import sys

import claims_addresses
import claims_churn
import claims_cli
import claims_datastores
import claims_etcd
import claims_members
import claims_explain
import claims_gateway
import claims_graceful
import claims_hostends
import claims_ipam
import claims_labs
import claims_mobility
import claims_podman
import claims_restart
import claims_robust
import claims_security
import claims_status
import claims_topologies
import claims_tunnels
import claims_verbs
import claims_views
import claims_vxlan
import onehost
from claims import Claims
from labs import Lab

GROUPS = [
    "labs", "observers", "explain", "gateway", "security", "addresses", "mobility", "status", "restart", "graceful", "podman", "etcd", "ipam", "datastores", "verbs",
    "views", "errors", "interrupt", "topologies", "vxlan", "robust", "churn",
    "hostends", "tunnels",
]
# Groups that bring up what they need themselves.
ALONE = {"graceful", "etcd", "ipam", "datastores", "verbs", "views", "errors", "interrupt", "topologies", "vxlan", "robust", "churn", "hostends", "tunnels"}


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
        if "explain" in wanted:
            run.heading("margay explain")
            claim("its verdict is what real packets do, cell by cell", claims_explain.cells_agree, a)
            claim("--counters names the rule that counts the probe, and it alone", claims_explain.counters_agree, a)
            claim("on another host it says where the counters are", claims_explain.elsewhere_is_said, a)
            claim("the datastore alone is enough", claims_explain.unprivileged, a)
            claim("questions without an answer end with exit code 2 and a hint", claims_explain.questions_without_answer, a)
            claim("a policy that only logs is warned of", claims_explain.log_only_is_warned_of)
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
        if "mobility" in wanted:
            run.heading("Workloads move, a host is lost")
            for how in ("cold", "overlapping"):
                claim(f"a workload moves to another host with its addresses: {how}", claims_mobility.moves, a, how)
            claim("a late DEL of the old host takes nothing from the new one", claims_mobility.late_del, a)
            claim("a host is lost, its node deleted, its addresses given anew, and it comes back", claims_mobility.lost_host)
        if "status" in wanted:
            run.heading("The daemons tell how they are")
            claim("status in the datastore: Calico's keys, read by sqlite", claims_status.keys_stand, a)
            claim("liveness, readiness and metrics of every daemon, read by curl", claims_status.pages_answer, a)
            claim("`margay node status` says since when and whether ready", claims_status.probes, a)
            claim("an interface switched off is an endpoint down", claims_status.interface_down, a)
            claim("a policy that cannot be read is told by every host", claims_status.broken_policy, a)
            claim("FelixConfiguration moves ports in place", claims_status.port_moves, a)
            claim("a host that dies: its keys vanish with the lease, its last word stays", claims_status.dead_host, a)
        if "restart" in wanted:
            run.heading("Processes die")
            claim("every margay process killed and started again: mesh", claims_restart.killed_and_started, a)
            claim("SIGTERM ends a host's processes in order", claims_restart.stopped_in_order, a)
            claim("felix alone and bgp alone crash: the supervisor repairs it", claims_restart.one_daemon_crashes, a)
        if "graceful" in wanted:
            run.heading("BGP restarts by way of a reflector, under traffic")
            for reflector in ("margay", "bird"):
                claim(f"whoever ends, however it ends, no packet is lost ({reflector} reflects)", claims_graceful.no_packet_lost, reflector)
                claim(f"one restart after the other ({reflector} reflects)", claims_graceful.consecutive_restarts, reflector)
                claim(f"what the restarted one has no more is swept ({reflector} reflects)", claims_graceful.stale_routes_are_swept, reflector)
                claim(f"the restart time ends ({reflector} reflects)", claims_graceful.restart_timer_expires, reflector)
            claim("policy changes while somebody is away", claims_graceful.policy_changes_meanwhile)
        if "podman" in wanted:
            run.heading("podman's containers")
            missing = claims_podman.runtimes.missing()
            if missing:
                print(f"  skipped: {', '.join(missing)} missing; install with scripts/prepare test")
            else:
                containers = claims_podman.Containers(a)
                try:
                    for network in ("pods", "named"):
                        claim(f"attached by `{network}`: address, record, policy", claims_podman.attached, containers, network)
                    claim("labels of a network decide as any workload's do", claims_podman.labelled, containers)
                    claim("four at once", claims_podman.several_at_once, containers)
                    claim("stopped and started", claims_podman.stopped_and_started, containers)
                    claim("addresses of host-local", claims_podman.delegated, containers)
                    claim("the reference plugin bridge with calico-ipam", claims_podman.bridged, containers)
                    claim("removed while no node serves", claims_podman.while_no_node_serves, containers)
                    claim("removed, nothing is left", claims_podman.nothing_left, containers)
                finally:
                    containers.end()
        if "etcd" in wanted:
            run.heading("On the distribution's etcd")
            etcd = claims_etcd.Etcd()
            try:
                claim("`etcdctl get --prefix /calico` looks as Calico's layout says", claims_etcd.calicos_layout, etcd)
                claim("an object written by etcdctl is served, and what margay does not know of it stays", claims_etcd.others_objects, etcd)
                claim("MARGAY_DATASTORE and Calico's variables name it", claims_etcd.calicos_variables, etcd)
                claim("wrong endpoints, TLS mistakes, a stopped etcd: an error within seconds that names the endpoint", claims_etcd.mistakes, etcd)
                claim("a node waits for its etcd; a pod's records are Calico's; etcd may come and go", claims_etcd.node_waits, etcd)
            finally:
                etcd.down()
            members = claims_members.Members()
            try:
                claim("three members: the leader moves, dies, the host is cut off; traffic flows on, and policies take effect again",
                      claims_members.through_outages, members)
            finally:
                members.down()
        if "datastores" in wanted:
            run.heading("Whole datastores: SQLite and etcd")
            held, places = claims_datastores.HeldLock(), claims_datastores.Places()
            try:
                claim("`datastore check` on a foreign etcd: faults with their effects, and not one write", claims_datastores.check_before_the_first_start, places)
                claim("backup and restore: count, hash and content as others compute them", claims_datastores.backup_and_restore, places)
                claim("SQLite to etcd while others write, the command killed on the way; the switch", claims_datastores.migrated_while_killed, places)
                claim("etcd to SQLite; lock and unlock", claims_datastores.and_back, places)
                claim("exported, imported, exported again: the same documents", claims_datastores.documents_travel, places)
                claim("a full disk", claims_datastores.full_disk, places)
                claim("a damaged file", claims_datastores.damaged_file, places)
                claim("a write lock that sqlite3 holds", held.claim)
            finally:
                held.end()
                places.down()
        if "verbs" in wanted:
            run.heading("The verbs that write")
            stores = claims_verbs.Stores()
            try:
                stores.start()
                claim("create, apply, replace, patch, label, delete: the same on SQLite and etcd, and etcdctl sees it", claims_verbs.on_both, stores)
                claim("fields that margay does not know stay through every verb", claims_verbs.unknown_fields, stores)
                claim("files, directories, lists: judged together, written in order, deleted in reverse", claims_verbs.files, stores)
                claim("--dry-run and diff tell the truth and write nothing", claims_verbs.rehearsal, stores)
                claim("answers for programs, and exit codes", claims_verbs.answers, stores)
                claim("a pool in use is refused, references that lead nowhere are warned of", claims_verbs.goes_along, stores)
                claim("edit: mistakes come back, nothing is lost, others' changes stay", claims_verbs.edit, stores)
                claim("twenty writers at once lose nothing", claims_verbs.writers, stores)
                claim("on a terminal: colour and a bar", claims_verbs.terminal, stores)
            finally:
                stores.down()
        if "views" in wanted:
            run.heading("What people read")
            claims_views.stored()
            claim("tables, documents, names and templates", claims_views.forms)
            claim("what get gives, apply takes, and nothing changes", claims_views.back_again)
            claim("exit codes and what is said with them", claims_views.exit_codes)
            claim("what cannot be read is shown, and --invalid says what it costs", claims_views.unreadable_is_shown)
            claim("a watch goes through an etcd that is killed and has changed when it comes back", claims_views.watch)
            claim("colour and width are a terminal's", claims_views.terminals)
            for shell in claims_views.SHELLS:
                claim(f"Tab in {shell}: commands, options, kinds and names", claims_views.completes, shell)
            claim("a datastore that does not answer does not hold Tab up", claims_views.completion_is_quick)
            claim("manual pages that mandoc finds no fault with", claims_views.manual)
            claim("calicoctl's configuration file", claims_views.configuration)
            claim("checksystem tries for real and changes nothing", claims_views.checksystem)
            claim("diags: one archive, no secrets, and what it lacks", claims_views.diags)
        if "ipam" in wanted:
            run.heading("margay ipam, and assignment under fire")
            claim("pools, blocks, borrowed addresses and one address are shown", claims_ipam.shown)
            claim("settings that exclude each other are refused", claims_ipam.settings_are_checked)
            claim("a stale report releases nothing that was given anew", claims_ipam.stale_report)
            claim("a pool is split while addresses are held; no address is lost", claims_ipam.split_online)
            for backend in ("sqlite", "etcd"):
                claim(f"20 processes assign, release and die: no address twice, none lost after repair ({backend})", claims_ipam.under_fire, backend)
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
        if "hostends" in wanted:
            run.heading("A host's own interface under policy")
            claims_hostends.run_group(claim)
        if "tunnels" in wanted:
            run.heading("What others do to tunnels, with traffic through them")
            tunnelled = claims_tunnels.Tunnelled()
            try:
                if claim("the lab of Examples/vxlan.yaml comes up", tunnelled.up):
                    claim("entries, routes, interfaces of tunnels taken away and changed", claims_tunnels.disturbed, tunnelled)
                    claim("host endpoints without policy leave tunnels open", claims_tunnels.under_host_endpoints, tunnelled)
                    claim("strangers who send into a tunnel are not heard", claims_tunnels.strangers_are_not_heard, tunnelled)
            finally:
                tunnelled.down()
        if "vxlan" in wanted:
            run.heading("VXLAN between hosts")
            claims_vxlan.run_all(claim)
        if "robust" in wanted:
            run.heading("What others do to a host, with traffic running")
            onehost.run_group(claim, claims_robust.CLAIMS)
        if "churn" in wanted:
            run.heading("Everything changes, with traffic running")
            onehost.run_group(claim, claims_churn.CLAIMS)
    finally:
        for lab in (a, b):
            lab.down()
    return run.finish()


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
