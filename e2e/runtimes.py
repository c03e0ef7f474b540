"""Container runtimes of the distribution, each with a home of its own, started as if on one host of a lab.

What has to be known: `ip netns exec` would hide the cgroups, so processes enter by `nsenter --net=`; runc goes with cgroupfs; limits above
those of our own shell are refused by a kernel that does not let us raise them; podman keeps locks and a database beside its storage.
"""

import hashlib
import io
import json
import os
import resource
import shutil
import subprocess
import tarfile

from labs import CNI, run

REFERENCE_PLUGINS = "/usr/lib/cni"


def missing():
    """What of podman's needs is not installed; empty when it can be tried."""
    found = [word for word in ("podman", "runc", "conmon", "busybox", "nsenter") if not shutil.which(word)]
    found += [f"{REFERENCE_PLUGINS}/{word}" for word in ("bridge", "host-local") if not os.access(f"{REFERENCE_PLUGINS}/{word}", os.X_OK)]
    return found


def plugin_directory(path):
    """Our plugin under all its names, as its installer puts it."""
    run(CNI, "install", "--bin-dir", path, check=True)
    return path


def busybox_image(path, name):
    """A docker-archive with a static busybox, made here: no image registry is asked."""
    def archive(members):
        buffer = io.BytesIO()
        with tarfile.open(fileobj=buffer, mode="w") as tar:
            for member, octets, link in members:
                info = tarfile.TarInfo(member)
                info.mode = 0o755
                if link:
                    info.type, info.linkname = tarfile.SYMTYPE, link
                elif octets is None:
                    info.type = tarfile.DIRTYPE
                else:
                    info.size = len(octets)
                tar.addfile(info, io.BytesIO(octets) if octets is not None else None)
        return buffer.getvalue()

    busybox = os.path.realpath(shutil.which("busybox"))
    with open(busybox, "rb") as file:
        program = file.read()
    applets = subprocess.run([busybox, "--list"], stdout=subprocess.PIPE, text=True, check=True).stdout.split()
    layer = archive(
        [(word, None, None) for word in ("bin", "etc", "proc", "sys", "dev", "tmp", "run")] + [("bin/busybox", program, None)]
        + [(f"bin/{applet}", None, "busybox") for applet in applets if applet != "busybox"]
        + [("etc/passwd", b"root:x:0:0:root:/tmp:/bin/sh\n", None), ("etc/group", b"root:x:0:\n", None)])
    configuration = json.dumps({
        "architecture": "amd64" if os.uname().machine == "x86_64" else "arm64", "os": "linux",
        "config": {"Env": ["PATH=/bin"], "Cmd": ["sleep", "86400"]},
        "rootfs": {"type": "layers", "diff_ids": ["sha256:" + hashlib.sha256(layer).hexdigest()]},
    }).encode()
    manifest = json.dumps([{"Config": "config.json", "RepoTags": [name], "Layers": ["layer.tar"]}]).encode()
    with open(path, "wb") as file:
        file.write(archive([("manifest.json", manifest, None), ("config.json", configuration, None), ("layer.tar", layer, None)]))
    return path


class Podman:
    def __init__(self, directory, namespace, plugins, networks):
        """`networks`: conflists by name."""
        self.directory, self.namespace = directory, namespace
        os.makedirs(f"{directory}/net.d")
        for number, (name, plugin_list) in enumerate(networks.items()):
            with open(f"{directory}/net.d/{10 + number}-{name}.conflist", "w") as file:
                json.dump({"cniVersion": "1.0.0", "name": name, "plugins": plugin_list}, file)
        files = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
        with open(f"{directory}/containers.conf", "w") as file:
            file.write(f"""[containers]
default_ulimits = ["nofile={files}:{files}", "nproc=4096:4096"]
[engine]
cgroup_manager = "cgroupfs"
events_logger = "file"
runtime = "runc"
lock_type = "file"
tmp_dir = "{directory}/tmp"
[network]
network_backend = "cni"
cni_plugin_dirs = ["{plugins}", "{REFERENCE_PLUGINS}"]
network_config_dir = "{directory}/net.d"
default_network = "{next(iter(networks))}"
""")
        with open(f"{directory}/storage.conf", "w") as file:
            file.write(f'[storage]\ndriver = "vfs"\ngraphroot = "{directory}/root"\nrunroot = "{directory}/run"\n')
        self.environment = {"CONTAINERS_CONF": f"{directory}/containers.conf", "CONTAINERS_STORAGE_CONF": f"{directory}/storage.conf"}

    def __call__(self, *words, **options):
        return run("nsenter", f"--net=/run/netns/{self.namespace}", "podman", *words, environment=self.environment, **options)

    def inspect(self, name):
        return json.loads(self("inspect", name, check=True))[0]

    def sandbox(self, name):
        """The name of the container's network namespace in /run/netns."""
        return os.path.basename(self.inspect(name)["NetworkSettings"]["SandboxKey"])

    def end(self):
        self("rm", "-f", "-t", "0", "-a", seconds=120)
        shutil.rmtree(self.directory, ignore_errors=True)
