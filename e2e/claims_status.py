"""What the daemons tell of themselves: status in the datastore, read without Margay, and health and metrics over HTTP."""

import json
import sqlite3

from claims import expect, expect_equal, wait_until
from labs import HOSTS, margay

PORTS = {"felix": 9099, "bgp": 9097}
FELIX = "/calico/felix/v2/no-region/host"
HEAD = "apiVersion: projectcalico.org/v3\n"


def keys(lab, prefix):
    """Key: (value, whether under a lease), as SQLite's own library reads them."""
    with sqlite3.connect(f"file:{lab.directory}/datastore.sqlite?mode=ro", uri=True, timeout=10) as connection:
        rows = connection.execute("SELECT key, value, lease FROM item WHERE substr(key, 1, ?) = ?", (len(prefix), prefix)).fetchall()
    return {key: (json.loads(value), lease is not None) for key, value, lease in rows}


def curl(lab, host, port, path):
    """Status code and body; code 0 when nobody answers."""
    output = lab.exec(host, "curl", "--noproxy", "*", "-sS", "-m", "8", "-w", "\n%{http_code}", f"http://127.0.0.1:{port}/{path}")
    body, _, code = output.rpartition("\n")
    return (int(code) if output.code == 0 else 0), body


def everything(lab):
    return margay("node", "status", "--all", "--datastore", lab.datastore)


def keys_stand(lab):
    """Calico's keys with Calico's members, under a lease where Calico's vanish by themselves."""
    workloads = lab.workloads()
    def states():
        return {key: value["status"] for host in HOSTS for key, (value, _) in keys(lab, f"{FELIX}/{host}/workload/").items()}
    wait_until(lambda: f"every endpoint is up: {states()}", 5, lambda: list(states().values()) == ["up"] * len(workloads))
    for host in HOSTS:
        found = keys(lab, f"{FELIX}/{host}/")
        status, leased = found[f"{FELIX}/{host}/status"]
        expect(leased, f"the status of {host} under a lease")
        expect(isinstance(status["uptime"], float) and status["time"].endswith("Z") and "first_update" in status, "Calico's members", status)
        last, leased = found[f"{FELIX}/{host}/last_reported_status"]
        expect(not leased and last["time"] == status["time"], "the last report to be the same, and to stay", last)
        endpoints = {key: value for key, value in found.items() if "/workload/" in key}
        local = [w for w in workloads.values() if w.host == host]
        expect_equal(len(endpoints), len(local), f"endpoints of {host} in the datastore")
        for key, (value, leased) in endpoints.items():
            expect(leased and value["status"] == "up" and key.endswith("/endpoint/eth0") and "/workload/k8s/" in key and "%2f" in key,
                   "each up, under a lease, at k8s/<namespace>%2f<pod>", f"{key} {value}")
    output = everything(lab)
    expect(output.code == 0 and output.count("alive") == 3, "`margay node status --all`: three nodes alive, exit code 0", f"{output.code}: {output}")
    document = json.loads(margay("node", "status", "--all", "-o", "json", "--datastore", lab.datastore, check=True))
    expect(all(node["sessions"] and all(s["established"] for s in node["sessions"]) for node in document["nodes"]), "sessions among them", document)
    return f"{len(workloads)} endpoints"


def pages_answer(lab):
    """The three paths of both daemons in each host's namespace."""
    for host in HOSTS:
        for daemon, port in PORTS.items():
            for path in ("liveness", "readiness"):
                code, body = curl(lab, host, port, path)
                expect(code == 200 and json.loads(body)["ok"] is True, f"{daemon} of {host} to be well at /{path}", f"{code} {body}")
            code, body = curl(lab, host, port, "metrics")
            expect(code == 200, f"metrics of {daemon}", f"{code} {body[:200]}")
            samples = dict(line.rsplit(" ", 1) for line in body.splitlines() if not line.startswith("#"))
            if daemon == "felix":
                local = len([w for w in lab.workloads().values() if w.host == host])
                expect_equal(samples["felix_active_local_endpoints"], str(local), "felix_active_local_endpoints")
                expect_equal(samples['margay_felix_endpoints{state="up"}'], str(local), "endpoints that are up")
                expect_equal(samples["felix_resync_state"], "2", "felix_resync_state")
                expect(int(samples["margay_felix_datastore_to_kernel_seconds_count"]) > 0, "a latency to have been counted", body[:400])
            else:
                states = {name: value for name, value in samples.items() if name.startswith("margay_bgp_peer_state{")}
                expect(states and all(value == "6" for value in states.values()), "every session established", states)


def interface_down(lab):
    """An endpoint whose interface is switched off, in the datastore and in the table."""
    workload = next(w for w in lab.workloads().values() if w.host == "host1")
    name = lab.interface(workload)
    def status():
        found = [value for key, (value, _) in keys(lab, f"{FELIX}/host1/workload/").items() if f"%2f{workload.name}/" in key]
        return found[0] if found else None
    expect_equal((status() or {}).get("status"), "up", f"status of {workload.name}")
    lab.exec("host1", "ip", "link", "set", name, "down", check=True)
    try:
        wait_until(lambda: f"{workload.name} is down, with a reason: {status()}", 5,
                   lambda: status()["status"] == "down" and name in status()["reason"])
        output = everything(lab)
        expect(workload.name in output and name in output, "`margay node status --all` to say which and why", output)
    finally:
        lab.exec("host1", "ip", "link", "set", name, "up", check=True)
    wait_until(lambda: f"{workload.name} is up again: {status()}", 5, lambda: status()["status"] == "up")


def broken_policy(lab):
    """Another program writes a policy that nobody can read: each host's status names it, and the exit code is 2."""
    path = "/calico/resources/v3/projectcalico.org/globalnetworkpolicies/broken"
    lab.apply(HEAD + "kind: GlobalNetworkPolicy\nmetadata: {name: broken}\nspec: {selector: has(nobody)}\n")
    try:
        document = json.dumps({"kind": "GlobalNetworkPolicy", "apiVersion": "projectcalico.org/v3", "metadata": {"name": "broken"}, "spec": {"selector": "app =="}})
        lab.apply(HEAD + "kind: FelixConfiguration\nmetadata: {name: node.nowhere}\nspec: {}\n")
        with sqlite3.connect(f"{lab.directory}/datastore.sqlite", timeout=10) as connection:
            # As a transaction of the store: one revision, the item and its event.
            revision = connection.execute("UPDATE store SET revision = revision + 1 RETURNING revision").fetchone()[0]
            created = connection.execute("SELECT created FROM item WHERE key = ?", (path,)).fetchone()[0]
            connection.execute("UPDATE item SET value = ?, modified = ? WHERE key = ?", (document.encode(), revision, path))
            connection.execute("INSERT INTO event (revision, key, value, created, lease, at) VALUES (?, ?, ?, ?, NULL, unixepoch())",
                               (revision, path, document.encode(), created))
        # The store's own files were written behind its back; an ordinary write wakes who waits for commits.
        lab.apply(HEAD + "kind: FelixConfiguration\nmetadata: {name: node.nowhere}\nspec: {ipv6Support: true}\n")
        output = wait_until("every host names the policy", 10, lambda: (lambda o: o if o.count("broken") >= 3 else None)(everything(lab)))
        expect_equal(output.code, 2, "exit code of `margay node status --all`")
        local = margay("node", "status", "--run-dir", f"{lab.directory}/host1")
        expect(local.code == 2 and "finding" in local and "broken" in local, "`margay node status` of host1 to say the same", f"{local.code}: {local[:600]}")
    finally:
        margay("delete", "globalnetworkpolicy", "broken", "--datastore", lab.datastore)
        margay("delete", "felixconfiguration", "node.nowhere", "--datastore", lab.datastore)
    wait_until(lambda: f"all is well: {everything(lab)}", 10, lambda: everything(lab).code == 0)


def port_moves(lab):
    """FelixConfiguration moves a port in place, for one node."""
    lab.apply(HEAD + "kind: FelixConfiguration\nmetadata: {name: node.host1}\nspec: {healthPort: 9199, prometheusMetricsEnabled: true}\n")
    try:
        wait_until("health answers at the new port", 5, lambda: curl(lab, "host1", 9199, "liveness")[0] == 200)
        wait_until("nobody answers at the old one", 5, lambda: curl(lab, "host1", 9099, "liveness")[0] == 0)
        for port in (9091, 9095):
            wait_until(f"metrics answer at {port}", 5, lambda: curl(lab, "host1", port, "metrics")[0] == 200)
        expect_equal(curl(lab, "host1", 9091, "liveness")[0], 404, "liveness at the port of metrics")
        expect_equal(curl(lab, "host2", 9099, "liveness")[0], 200, "liveness of another host")
    finally:
        margay("delete", "felixconfiguration", "node.host1", "--datastore", lab.datastore, check=True)
    wait_until("health answers at the usual port", 5, lambda: curl(lab, "host1", 9099, "liveness")[0] == 200)


def dead_host(lab):
    """A host's daemons die: probes hear it at once, the datastore when the lease ends, and the last word stays."""
    lab.apply(HEAD + "kind: FelixConfiguration\nmetadata: {name: default}\nspec: {reportingInterval: 2s, reportingTTL: 6s}\n")
    killed = False
    try:
        first = keys(lab, f"{FELIX}/host2/")[f"{FELIX}/host2/status"][0]["time"]
        wait_until("the shorter terms are in force", 10, lambda: keys(lab, f"{FELIX}/host2/")[f"{FELIX}/host2/status"][0]["time"] != first)
        expect(len(keys(lab, f"{FELIX}/host2/workload/")) > 0, "endpoints of host2")
        margay("lab", "kill", "--name", lab.name, "host2", check=True)
        killed = True
        expect_equal(curl(lab, "host2", 9099, "readiness")[0], 0, "the answer of a dead felix")
        wait_until(lambda: f"the keys vanish: {list(keys(lab, f'{FELIX}/host2/'))}", 15,
                   lambda: list(keys(lab, f"{FELIX}/host2/")) == [f"{FELIX}/host2/last_reported_status"])
        output = everything(lab)
        expect(output.code == 1 and "silent" in output and "last heard" in output, "host2 silent, exit code 1", f"{output.code}: {output}")
    finally:
        if killed:
            margay("lab", "start", "--name", lab.name, "host2", check=True, seconds=60)
    wait_until(lambda: f"all is well again: {everything(lab)}", 60, lambda: everything(lab).code == 0)
    margay("delete", "felixconfiguration", "default", "--datastore", lab.datastore)


def probes(lab):
    """What `margay node status` says of a host agrees with its sockets."""
    output = margay("node", "status", "--run-dir", f"{lab.directory}/host1")
    expect(output.code == 0 and output.count("ready") >= 2 and "running for" in output, "both daemons ready, and since when", f"{output.code}: {output[:400]}")
