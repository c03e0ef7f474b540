"""Real traffic through the kernels' own sockets: echo servers in workloads, single questions, and flows that go on and are counted."""

import os
import select
import socket
import struct
import threading
import time

from claims import Claim, wait_until
from labs import inside, run


SO_RCVBUFFORCE = 33


def _socket(namespace, family, kind):
    with inside(namespace):
        made = socket.socket(socket.AF_INET if family == 4 else socket.AF_INET6, kind)
    if kind == socket.SOCK_DGRAM:
        # What the network delivers while this process waits for its turn on a busy machine must not be lost here.
        made.setsockopt(socket.SOL_SOCKET, SO_RCVBUFFORCE, 8 << 20)
    return made


class Echo:
    """Echo servers of one workload, on a thread of their own."""

    def __init__(self, namespace, tcp=(), udp=()):
        self.listeners, self.datagrams, self.connections = [], [], []
        self.received = []  # every octet string that the servers' applications were given
        for family, any in ((4, "0.0.0.0"), (6, "::")):
            for kind, ports, into in ((socket.SOCK_STREAM, tcp, self.listeners), (socket.SOCK_DGRAM, udp, self.datagrams)):
                for port in ports:
                    server = _socket(namespace, family, kind)
                    if family == 6:
                        server.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
                    server.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                    server.bind((any, port))
                    if kind == socket.SOCK_STREAM:
                        server.listen(64)
                    server.setblocking(False)
                    into.append(server)
        self.stop, self._stopped = os.pipe()
        self.thread = threading.Thread(target=self._serve, daemon=True)
        self.thread.start()

    def _serve(self):
        while True:
            ready, _, _ = select.select([self.stop] + self.listeners + self.datagrams + self.connections, [], [])
            for one in ready:
                try:
                    if one == self.stop:
                        return
                    if one in self.listeners:
                        connection, _ = one.accept()
                        connection.setblocking(False)
                        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                        self.connections.append(connection)
                    elif one in self.datagrams:
                        octets, sender = one.recvfrom(65536)
                        self.received.append(octets)
                        one.sendto(octets, sender)
                    else:
                        octets = one.recv(65536)
                        if octets:
                            self.received.append(octets)
                            one.send(octets)
                        else:
                            self.connections.remove(one)
                            one.close()
                except OSError:
                    if one in self.connections:
                        self.connections.remove(one)
                        one.close()

    def close(self):
        os.write(self._stopped, b"x")
        self.thread.join(2)
        for one in self.listeners + self.datagrams + self.connections:
            one.close()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()


def tcp_reaches(source, destination, port, seconds=0.7, bind=None):
    """Whether a connection is made. A reset counts as reached: somebody answered."""
    family = 6 if ":" in destination else 4
    with _socket(source, family, socket.SOCK_STREAM) as client:
        client.settimeout(seconds)
        if bind:
            client.bind((bind, 0))
        try:
            client.connect((destination, port))
            return True
        except ConnectionRefusedError:
            return True
        except OSError:
            return False


def udp_echo(source, destination, port, payload, seconds=0.7):
    """Whether an echo server gives the datagram back."""
    family = 6 if ":" in destination else 4
    with _socket(source, family, socket.SOCK_DGRAM) as client:
        client.settimeout(seconds)
        try:
            client.connect((destination, port))
            client.send(payload)
            return client.recv(65536) == payload
        except OSError:
            return False


def ping(namespace, destination, seconds=1):
    """One echo request, by the distribution's ping."""
    return run("ip", "netns", "exec", namespace, "ping", "-n", "-c", "1", "-W", str(seconds), destination, seconds=seconds + 5).code == 0


class Flows:
    """Flows that ask every `interval` seconds, each request numbered; counts what is never answered."""

    class Flow:
        def __init__(self, name, socket_, kind):
            self.name, self.socket, self.kind = name, socket_, kind
            self.sent, self.answered, self.problem, self.buffer = 0, set(), None, b""
            self.times, self.refused = [], []  # at which each request was sent; at which the kernel would not send one

        @property
        def lost(self):
            return self.sent - len(self.answered)

    def __init__(self, interval=0.005):
        self.interval = interval
        self.flows = []
        self.stopping = threading.Event()
        self.thread = None

    def add(self, kind, source, destination, port=0):
        """kind: tcp, udp or icmp; source is a Workload, destination an address."""
        family = 6 if ":" in destination else 4
        name = f"{source.name} → {destination} {kind}{f'/{port}' if port else ''}"
        if kind == "icmp":
            with inside(source.namespace):
                client = socket.socket(
                    socket.AF_INET if family == 4 else socket.AF_INET6, socket.SOCK_RAW,
                    socket.IPPROTO_ICMP if family == 4 else socket.IPPROTO_ICMPV6)
        else:
            client = _socket(source.namespace, family, socket.SOCK_STREAM if kind == "tcp" else socket.SOCK_DGRAM)
        client.settimeout(3)
        try:
            client.connect((destination, port))
        except OSError as error:
            raise Claim(f"{name}: {error}")
        if kind == "tcp":
            client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        client.setblocking(False)
        flow = Flows.Flow(name, client, kind)
        flow.family, flow.identifier = family, (len(self.flows) + 1) * 257 & 0xFFFF
        self.flows.append(flow)

    def start(self):
        self.thread = threading.Thread(target=self._run, daemon=True)
        self.thread.start()
        wait_until(
            lambda: "every flow is answered; silent: " + ", ".join(f.name for f in self.flows if not f.answered), 5,
            lambda: all(flow.answered for flow in self.flows))

    def _send(self, flow):
        number = struct.pack("!I", flow.sent)
        try:
            if flow.kind == "icmp":
                from packets import checksum
                message = struct.pack("!BBHHH", 8 if flow.family == 4 else 128, 0, 0, flow.identifier, flow.sent & 0xFFFF) + number
                if flow.family == 4:
                    message = message[:2] + struct.pack("!H", checksum(message)) + message[4:]
                flow.socket.send(message)
            else:
                flow.socket.send(number)
            flow.sent += 1
            flow.times.append(time.monotonic())
        except OSError as error:
            flow.refused.append(time.monotonic())
            flow.problem = flow.problem or str(error)

    def _take(self, flow):
        try:
            while True:
                octets = flow.socket.recv(65536)
                if flow.kind == "icmp":
                    start = (octets[0] & 15) * 4 if flow.family == 4 else 0
                    message = octets[start:]
                    if len(message) >= 12 and message[0] == (0 if flow.family == 4 else 129) \
                            and struct.unpack("!H", message[4:6])[0] == flow.identifier:
                        flow.answered.add(struct.unpack("!I", message[8:12])[0])
                elif flow.kind == "udp":
                    flow.answered.add(struct.unpack("!I", octets)[0])
                else:
                    if not octets:
                        flow.problem = flow.problem or "closed by the other side"
                        return
                    flow.buffer += octets
                    while len(flow.buffer) >= 4:
                        flow.answered.add(struct.unpack("!I", flow.buffer[:4])[0])
                        flow.buffer = flow.buffer[4:]
        except BlockingIOError:
            pass
        except OSError as error:
            flow.problem = flow.problem or str(error)

    def _run(self):
        due = time.monotonic()
        while not self.stopping.is_set():
            for flow in self.flows:
                self._send(flow)
            due += self.interval
            while True:
                left = due - time.monotonic()
                if left <= 0:
                    break
                ready, _, _ = select.select([flow.socket for flow in self.flows], [], [], left)
                for flow in self.flows:
                    if flow.socket in ready:
                        self._take(flow)
            due = max(due, time.monotonic() - 0.5)
        deadline = time.monotonic() + 1
        while time.monotonic() < deadline and any(flow.lost for flow in self.flows):
            ready, _, _ = select.select([flow.socket for flow in self.flows], [], [], 0.05)
            for flow in self.flows:
                if flow.socket in ready:
                    self._take(flow)

    def finish(self):
        """Stops, waits for the last answers; returns (sent, problems)."""
        self.stopping.set()
        if self.thread:
            self.thread.join(5)
        problems = [f"{f.name}: {f.lost} of {f.sent} lost{f' ({f.problem})' if f.problem else ''}" for f in self.flows if f.lost or f.problem]
        for flow in self.flows:
            flow.socket.close()
        return sum(flow.sent for flow in self.flows), problems
