"""`margay ipam` on SQLite, and assignment under fire on both datastores."""

import json
import os
import re
import sqlite3

import fire
from claims import expect, expect_equal
from labs import BUILD, MARGAY, WORK, margay

STORE = f"sqlite:{WORK}/ipam.sqlite"
POOL = """
apiVersion: projectcalico.org/v3
kind: IPPool
metadata: {name: pool}
spec: {cidr: 10.65.0.0/24, blockSize: 28}
---
apiVersion: projectcalico.org/v3
kind: IPReservation
metadata: {name: gateway}
spec: {reservedCIDRs: [10.65.0.0/31]}
"""


def ipam(*words, check=True):
    return margay("ipam", *words, "--datastore", STORE, check=check)


def shown():
    margay("apply", "-f", "-", "--datastore", STORE, input=POOL, check=True)
    given = ipam("assign", "--handle", "h1", "--node", "a", "--count", "3").split()
    expect_equal(len(given), 3, "addresses assigned")
    guest = given[0].rsplit(".", 1)[0] + "." + str(int(given[0].rsplit(".", 1)[1]) + 9)
    ipam("assign", "--handle", "guest", "--node", "b", "--ip", guest)
    usage = json.loads(ipam("show", "--show-blocks", "-o", "json"))["pools"][0]
    expect_equal((usage["total"], usage["inUse"], usage["reserved"], usage["available"]), (256, 4, 2, 250), "total, in use, reserved, available")
    expect_equal(usage["blocks"][0]["affinity"], "host:a", "the block's owner")
    borrowed = json.loads(ipam("show", "--show-borrowed", "-o", "json"))["borrowed"]
    expect_equal([(item["ip"], item["node"], item["blockOwner"]) for item in borrowed], [(guest, "b", "a")], "what is borrowed")
    text = ipam("show", "--ip", guest)
    expect("assigned to handle guest" in text and "node: b" in text and "of node a" in text, "holder, attributes and block of an address", text)
    ipam("release", "--handle", "guest")
    return ipam("show").splitlines()[1]


def settings_are_checked():
    output = ipam("configure", "--maxblocks", "3", check=False)
    expect(output.code == 1 and "needs strict affinity" in output, "a refusal that says why", output)
    ipam("configure", "--strictaffinity", "true", "--cooldown", "10")
    settings = json.loads(ipam("show", "--show-configuration", "-o", "json"))
    expect_equal((settings["strictAffinity"], settings["ipCooldownSeconds"]), (True, 10), "what is in force")
    ipam("configure", "--strictaffinity", "false", "--cooldown", "0")


def _put_leak(store, handle, address):
    """Gives the assignment of `address` the attributes of a pod that has no endpoint, as a node that died in between leaves it."""
    with sqlite3.connect(store) as connection:
        for key, value in connection.execute("SELECT key, value FROM item WHERE key LIKE '/calico/ipam/v2/assignment/%'").fetchall():
            block = json.loads(value)
            for attribute in block["attributes"]:
                if attribute["handle_id"] == handle:
                    attribute["secondary"].update(namespace="shop", pod=handle)
                    connection.execute("UPDATE item SET value = ? WHERE key = ?", (json.dumps(block).encode(), key))


def stale_report():
    """A report names a leak; the address is released and given anew; the report takes nothing from the new holder."""
    address = ipam("assign", "--handle", "leak", "--node", "a", "--count", "1").strip()
    _put_leak(f"{WORK}/ipam.sqlite", "leak", address)
    report = f"{WORK}/ipam-report.json"
    output = ipam("check", "-o", report, check=False)
    expect(output.code == 1 and address in output and "used by nobody" in output, "exit code 1 and the leak", f"{output.code}: {output}")
    with open(report) as file:
        expect_equal([leak["ip"] for leak in json.load(file)["leaked"]], [address], "the report's leaks")
    ipam("release", "--handle", "leak")
    ipam("assign", "--handle", "leak", "--node", "a", "--ip", address)
    output = ipam("release", "--from-report", report)
    expect("0 released, 1 left alone" in output, "nothing released by the old report", output)
    expect("assigned to handle leak" in ipam("show", "--ip", address), "the new holder to have the address")
    _put_leak(f"{WORK}/ipam.sqlite", "leak", address)
    ipam("check", "-o", report, check=False)
    expect("1 released" in ipam("release", "--from-report", report), "a fresh report to release it")
    output = ipam("check")
    expect("nothing is wrong" in output, "nothing wrong any more", output)


def split_online():
    before = set(re.findall(r"10\.65\.\d+\.\d+", ipam("show", "--ip", "10.65.0.1")))
    output = ipam("split", "3", "--name", "pool", check=False)
    expect(output.code == 1 and "2, 4, 8" in output, "a refusal in words", output)
    output = ipam("split", "32", "--name", "pool", check=False)
    expect(output.code == 1 and "16 or fewer" in output, "a refusal that says how many", output)
    held = json.loads(ipam("show", "-o", "json"))["pools"][0]["inUse"]
    ipam("split", "4", "--cidr", "10.65.0.0/24")
    pools = json.loads(ipam("show", "-o", "json"))
    expect_equal([pool["name"] for pool in pools["pools"]], [f"split-pool-{number}" for number in range(4)], "the parts")
    expect_equal(sum(pool["inUse"] for pool in pools["pools"]), held, "addresses held")
    expect_equal(pools["blocksOutsidePools"], [], "blocks outside of pools")


def under_fire(backend):
    if not os.access(fire.PROBE, os.X_OK):
        raise AssertionError(f"{fire.PROBE} is missing; scripts/e2e-short builds it")
    text, _ = fire.run(backend, 20, 20, seed=os.getpid(), seconds=60, margay=MARGAY)
    return text
