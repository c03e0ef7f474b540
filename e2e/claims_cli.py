"""Errors that a user meets first, and labs that end before their time."""

import os
import re
import shutil
import signal
import time

from claims import expect, wait_until
from labs import BUILD, MARGAY, PREFIX, WORK, Background, leftovers, margay, namespaces, run

# name: (document, what the message must have, as patterns). {file} is the file's path; the number behind it is the line.
_HEAD = "apiVersion: projectcalico.org/v3\n"
MISTAKES = {
    "a YAML typo": (_HEAD + "kind: NetworkPolicy\nmetadata:\n  name: web\n namespace: shop\n", [r"{file}:[45]", r"YAML|indent|mapping|expected"]),
    "an unknown field": (
        _HEAD + "kind: NetworkPolicy\nmetadata: {{name: web, namespace: shop}}\nspec:\n  selektor: app == 'web'\n",
        [r"{file}:5", r"selektor", r"selector"]),
    "a wrong CIDR": (
        _HEAD + "kind: IPPool\nmetadata: {{name: pool}}\nspec:\n  cidr: 10.0.0.0/33\n", [r"{file}:5", r"cidr", r"10\.0\.0\.0/33", r"0.*32|length|like"]),
    "a CIDR inside a rule": (
        _HEAD + "kind: GlobalNetworkPolicy\nmetadata: {{name: p}}\nspec:\n  ingress:\n    - action: Allow\n      source:\n        nets: [10.1.2.0/24, 10.1.2.x/24]\n",
        [r"{file}:8", r"nets\[1\]|nets", r"10\.1\.2\.x/24"]),
    "an unknown kind": (_HEAD + "kind: NetworkPolice\nmetadata: {{name: web}}\n", [r"{file}:2", r"NetworkPolice", r"kind", r"NetworkPolicy"]),
    "an unknown API version": ("apiVersion: projectcalico.org/v7\nkind: Tier\nmetadata: {{name: t}}\n", [r"{file}:1", r"apiVersion", r"projectcalico\.org/v3"]),
    "a wrong action": (
        _HEAD + "kind: GlobalNetworkPolicy\nmetadata: {{name: p}}\nspec:\n  ingress:\n    - action: Permit\n", [r"{file}:6", r"action", r"Permit", r"Allow"]),
    "a selector with a mistake": (
        _HEAD + "kind: GlobalNetworkPolicy\nmetadata: {{name: p}}\nspec:\n  selector: app = 'web'\n", [r"{file}:5", r"selector", r"=="]),
    "a port out of range": (
        _HEAD + "kind: GlobalNetworkPolicy\nmetadata: {{name: p}}\nspec:\n  egress:\n    - action: Allow\n      protocol: TCP\n      destination:\n        ports: [80, 70000]\n",
        [r"{file}:9", r"ports", r"70000", r"65535|0"]),
    "ports without a protocol": (
        _HEAD + "kind: GlobalNetworkPolicy\nmetadata: {{name: p}}\nspec:\n  egress:\n    - action: Allow\n      destination: {{ports: [80]}}\n",
        [r"{file}:7|{file}:6", r"ports", r"protocol"]),
    "a name missing": (_HEAD + "kind: Tier\nmetadata: {{}}\nspec: {{order: 1}}\n", [r"{file}:[123]", r"name"]),
}


def mistakes_are_explained(kind):
    document, patterns = MISTAKES[kind]
    path = f"{WORK}/{re.sub(r'[^a-z]', '-', kind.lower())}.yaml"
    store = f"{WORK}/mistakes.sqlite"
    with open(path, "w") as file:
        file.write(document.format())
    for words in (("validate", "-f", path), ("apply", "-f", path, "--datastore", f"sqlite:{store}")):
        output = margay(*words)
        expect(output.code not in (0, 139, 132, 133, 134), f"`margay {words[0]}` to end with an error", f"exit code {output.code}: {output}")
        for pattern in patterns:
            pattern = pattern.format(file=re.escape(path))
            expect(re.search(pattern, output), f"`margay {words[0]}` to say /{pattern}/", output)
    return margay("validate", "-f", path).splitlines()[0].replace(WORK + "/", "")


def all_or_nothing():
    """One bad document among good ones: nothing of the file is written."""
    path, store = f"{WORK}/mixed.yaml", f"sqlite:{WORK}/mixed.sqlite"
    with open(path, "w") as file:
        file.write(_HEAD + "kind: Tier\nmetadata: {name: good}\nspec: {order: 1}\n---\n" + _HEAD + "kind: IPPool\nmetadata: {name: bad}\nspec: {cidr: nonsense}\n")
    output = margay("apply", "-f", path, "--datastore", store)
    expect(output.code == 1 and f"{path}:9" in output and "nothing" in output, "exit code 1, line 9 and that nothing was changed", output)
    output = margay("get", "tiers", "--datastore", store)
    expect("good" not in output, "no tier `good`", output)


def missing_tier():
    path, store = f"{WORK}/tierless.yaml", f"sqlite:{WORK}/tierless.sqlite"
    with open(path, "w") as file:
        file.write(_HEAD + "kind: GlobalNetworkPolicy\nmetadata: {name: guard}\nspec:\n  tier: securty\n  selector: all()\n")
    output = margay("apply", "-f", path, "--datastore", store)
    expect(output.code == 1, "exit code 1", f"{output.code}: {output}")
    expect("securty" in output and "tier" in output.lower() and "guard" in output, "a message naming tier, policy and what is wrong", output)
    expect(re.search(r"does not exist|no tier|not exist|unknown", output), "the cause in words", output)
    expect(re.search(r"apply|create|there (is|are)|one of", output), "what to do about it", output)
    return output.splitlines()[0]


def datastore_problems():
    path = f"{WORK}/fine.yaml"
    with open(path, "w") as file:
        file.write(_HEAD + "kind: Tier\nmetadata: {name: fine}\nspec: {order: 1}\n")
    environment = {"MARGAY_DATASTORE": ""}
    output = margay("apply", "-f", path, "--datastore", f"sqlite:{WORK}/x.sqlite", check=True)
    expect("made a new, empty datastore" in output, "`margay apply` to say that it made a datastore", output)
    for words, patterns in (
        (["apply", "-f", path], [r"datastore", r"sqlite:", r"MARGAY_DATASTORE"]),
        (["apply", "-f", path, "--datastore", "mongodb://x"], [r"mongodb://x", r"sqlite:"]),
        (["apply", "-f", path, "--datastore", "sqlite:/no/such/place/x.sqlite"], [r"/no/such/place/x\.sqlite", r"No such|does not exist|cannot|unable"]),
        (["get", "tiers", "--datastore", f"sqlite:{WORK}/typo.sqlite"], [r"there is no datastore at .*typo\.sqlite"]),
        (["get", "tiers", "--datastore", f"sqlite:{path}"], [re.escape(path), r"not a database|no SQLite|not.*SQLite"]),
        (["apply", "-f", f"{WORK}/absent.yaml", "--datastore", f"sqlite:{WORK}/x.sqlite"], [r"absent\.yaml", r"No such file|does not exist"]),
        (["get", "pods", "--datastore", f"sqlite:{WORK}/x.sqlite"], [r"pods", r"networkpolicy"]),
        (["get", "tier", "nobody", "--datastore", f"sqlite:{WORK}/x.sqlite"], [r"[Tt]ier.*nobody", r"not exist"]),
        (["lab", "status", "--name", PREFIX + "none"], [PREFIX + "none"]),
        (["lab", "exec", "--name", PREFIX + "none", "host1", "--", "true"], [PREFIX + "none", r"not stand|no lab"]),
        (["node", "status", "--run-dir", f"{WORK}/nowhere"], [r"felix", r"not answer"]),
        (["validat", "-f", path], [r"validat", r"validate"]),
    ):
        output = run(MARGAY, *words, environment=environment)
        expect(output.code not in (0, 132, 133, 134, 139), f"`margay {' '.join(words)}` to end with an error", f"exit code {output.code}: {output}")
        for pattern in patterns:
            expect(re.search(pattern, output), f"`margay {' '.join(words)}` to say /{pattern}/", output)
        expect("Fatal error" not in output and "Backtrace" not in output, "no trap", output)
    expect(not os.path.exists(f"{WORK}/typo.sqlite"), "no store made by reading")


def not_root():
    """As a user without rights: a sentence, not a stack of failures; and nothing made."""
    place = f"{WORK}/public"
    os.makedirs(place, exist_ok=True)
    os.chmod(WORK, 0o755)
    for name in ("margay", "margay-cni"):
        shutil.copy(f"{BUILD}/{name}", f"{place}/{name}")
        os.chmod(f"{place}/{name}", 0o755)
    os.chmod(place, 0o755)
    name = PREFIX + "user"
    for words, patterns in (
        (["lab", "demo", "--name", name], [r"root"]), (["lab", "up", "--name", name], [r"root"]), (["lab", "down", "--name", name], [r"root"]),
        (["node", "--name", "x", "--datastore", f"sqlite:{place}/x"], [r"root"]), (["felix", "--name", "x", "--datastore", f"sqlite:{place}/x"], [r"root"]),
    ):
        output = run("setpriv", "--reuid", "65534", "--regid", "65534", "--clear-groups", f"{place}/margay", *words)
        expect(output.code != 0, f"`margay {' '.join(words[:2])}` of a user to end with an error", output.code)
        for pattern in patterns:
            expect(re.search(pattern, output), f"`margay {' '.join(words[:2])}` of a user to say that root is needed", output)
        expect(len(output.strip().splitlines()) <= 4, "a few lines, not a flood", output)
    expect(not leftovers(name), "nothing made", leftovers(name))
    output = run("setpriv", "--reuid", "65534", "--regid", "65534", "--clear-groups", f"{place}/margay", "selector", "match", "app == 'web'", "app=web")
    expect(output.code == 0, "what needs no rights to work without", f"{output.code}: {output}")


def lab_status_for_users(lab):
    """Status needs no root: an operator's monitoring is not root."""
    output = run("setpriv", "--reuid", "65534", "--regid", "65534", "--clear-groups", f"{WORK}/public/margay", "node", "status",
                 "--run-dir", f"{lab.directory}/host1")
    expect(output.code == 0 and "not answer" not in output, "`margay node status` of a user to show both daemons", f"{output.code}: {output[:600]}")


def _nothing_left(name):
    wait_until(lambda: f"nothing is left of lab {name}: {leftovers(name)[:8]}", 3, lambda: not leftovers(name))


def interrupted(word, moment, number=signal.SIGINT):
    """Ctrl-C when the demo has said `moment`: the whole foreground group gets the signal, as from a terminal."""
    name = PREFIX + word
    demo = Background(MARGAY, "lab", "demo", "--name", name, "--arrangement", "mesh", group=True)
    try:
        if callable(moment):
            wait_until("the moment has come", 60, lambda: moment(name, demo) or demo.process.poll() is not None, pause=0.001)
        else:
            demo.wait_for(moment, 60)
        expect(demo.process.poll() is None, "the demo to be running still", demo.text[-800:])
        made = len(leftovers(name))
        started = time.monotonic()
        demo.signal_group(number)
        code = demo.wait(15)
        took = time.monotonic() - started
        expect(code == 128 + number or code == -number, f"exit code {128 + number}", f"{code}: {demo.text[-600:]}")
        _nothing_left(name)
        return f"{made} things removed in {took:.1f} s"
    finally:
        if demo.process.poll() is None:
            demo.signal_group(signal.SIGKILL)
        margay("lab", "down", "--name", name)


MOMENTS = {
    "right after the start": ("ia", lambda name, demo: bool(leftovers(name))),
    "while namespaces are made": ("ib", lambda name, demo: len([n for n in namespaces() if n.startswith(f"margay-{name}-")]) >= 2),
    "while nodes start": ("ic", "✓ BIRD"),
    "while sessions come up": ("id", "margay node on each host"),
    "while workloads are attached": ("ie", lambda name, demo: any(n == f"margay-{name}-db-1" for n in namespaces())),
    "while traffic is sent": ("if", "echo servers"),
    "while a host restarts": ("ig", "kill -9"),
}


def killed_demo():
    """kill -9 leaves a datacenter behind; `lab down` finds and removes it, and says so."""
    name = PREFIX + "ih"
    demo = Background(MARGAY, "lab", "demo", "--name", name, "--arrangement", "mesh", group=True)
    try:
        demo.wait_for("margay-cni ADD", 60)
        demo.signal_group(signal.SIGKILL)
        demo.wait(5)
        left = leftovers(name)
        expect(len(left) > 10, "leftovers of a killed demo (or this proves nothing)", left)
        output = margay("lab", "up", "--name", name)
        expect(output.code != 0 and "lab down" in output, "`lab up` over leftovers to be refused, naming `lab down`", output)
        output = margay("lab", "down", "--name", name, check=True)
        expect(re.search(r"namespaces", output) and re.search(r"processes", output), "`lab down` to say what it removed", output)
        _nothing_left(name)
        again = margay("lab", "down", "--name", name)
        expect(again.code == 0 and "nothing" in again, "a second `lab down` to find nothing, and to succeed", again)
        return output.strip()
    finally:
        margay("lab", "down", "--name", name)


def torn_down(labs):
    """`lab down` of labs that stand: nothing stays, and the other lab does not notice."""
    first, second = labs
    margay("lab", "down", "--name", first.name, check=True, seconds=30)
    _nothing_left(first.name)
    expect(second.bgp_established("host1"), "the other lab untouched")
    margay("lab", "down", "--name", second.name, check=True, seconds=30)
    _nothing_left(second.name)
