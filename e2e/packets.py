"""Frames made by hand, and a listener that sees every frame of an interface: what a workload that plays by no rules can do."""

import errno
import ipaddress
import os
import select
import socket
import struct
import time

from claims import Claim
from labs import inside

GATEWAY_MAC = bytes.fromhex("eeeeeeeeeeee")
ETH_P_ALL = 3
ICMP, IPIP, TCP, UDP, IP6, GRE, ICMP6, SCTP = 1, 4, 6, 17, 41, 47, 58, 132
SYN, ACK, PSH, RST = 0x02, 0x10, 0x08, 0x04


def checksum(octets):
    if len(octets) % 2:
        octets += b"\0"
    total = sum(struct.unpack(f"!{len(octets) // 2}H", octets))
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return ~total & 0xFFFF


def packed(address):
    return ipaddress.ip_address(address).packed


def _pseudo(source, destination, protocol, length):
    if ":" in source:
        return packed(source) + packed(destination) + struct.pack("!II", length, protocol)
    return packed(source) + packed(destination) + struct.pack("!BBH", 0, protocol, length)


def udp(source, destination, sport, dport, payload):
    segment = struct.pack("!HHHH", sport, dport, 8 + len(payload), 0) + payload
    sum = checksum(_pseudo(source, destination, UDP, len(segment)) + segment) or 0xFFFF
    return segment[:6] + struct.pack("!H", sum) + segment[8:]


def tcp(source, destination, sport, dport, flags, sequence=1000, acknowledgement=0, payload=b""):
    segment = struct.pack("!HHIIBBHHH", sport, dport, sequence & 0xFFFFFFFF, acknowledgement & 0xFFFFFFFF, 5 << 4, flags, 64240, 0, 0) + payload
    sum = checksum(_pseudo(source, destination, TCP, len(segment)) + segment)
    return segment[:16] + struct.pack("!H", sum) + segment[18:]


def icmp4(kind, code, rest):
    message = struct.pack("!BBH", kind, code, 0) + rest
    return message[:2] + struct.pack("!H", checksum(message)) + message[4:]


def icmp6(source, destination, kind, code, rest):
    message = struct.pack("!BBH", kind, code, 0) + rest
    sum = checksum(_pseudo(source, destination, ICMP6, len(message)) + message)
    return message[:2] + struct.pack("!H", sum) + message[4:]


def ipv4(source, destination, protocol, payload, identification=0, offset=0, more=False, ttl=64, dont=False):
    """`offset` in octets, a multiple of eight."""
    flags = (0x2000 if more else 0) | (0x4000 if dont else 0) | (offset // 8)
    header = struct.pack("!BBHHHBBH", 0x45, 0, 20 + len(payload), identification, flags, ttl, protocol, 0) + packed(source) + packed(destination)
    return header[:10] + struct.pack("!H", checksum(header)) + header[12:] + payload


def ipv6(source, destination, next_header, payload, hops=64):
    return struct.pack("!IHBB", 6 << 28, len(payload), next_header, hops) + packed(source) + packed(destination) + payload


def fragment_header(next_header, offset, more, identification):
    return struct.pack("!BBHI", next_header, 0, offset | (1 if more else 0), identification)


def options_header(next_header):
    """A hop-by-hop or destination options header with padding only (PadN of four)."""
    return struct.pack("!BB", next_header, 0) + b"\x01\x04\0\0\0\0"


def routing_header(next_header):
    """Type 4 (segment routing) with no segments left: to be skipped by who does not route by it."""
    return struct.pack("!BBBBI", next_header, 0, 4, 0, 0)


def ip_packet(source, destination, protocol, payload, **more):
    return ipv6(source, destination, protocol, payload) if ":" in source else ipv4(source, destination, protocol, payload, **more)


def frame(packet, source_mac, destination_mac=GATEWAY_MAC):
    kind = 0x86DD if packet[0] >> 4 == 6 else 0x0800
    return destination_mac + source_mac + struct.pack("!H", kind) + packet


def arp(operation, sender_mac, sender, target_mac, target, destination_mac=b"\xff" * 6):
    return (
        destination_mac + sender_mac + struct.pack("!H", 0x0806)
        + struct.pack("!HHBBH", 1, 0x0800, 6, 4, operation) + sender_mac + packed(sender) + target_mac + packed(target))


class Port:
    """Frames in and out of one interface of a namespace, past every rule of that namespace."""

    def __init__(self, namespace, interface="eth0"):
        self.name = f"{namespace}/{interface}"
        with inside(namespace):
            self.socket = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(ETH_P_ALL))
            self.socket.bind((interface, ETH_P_ALL))
            self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4 << 20)
        self.mac = self.socket.getsockname()[4]
        self.socket.setblocking(False)

    def send(self, packet, source_mac=None, destination_mac=GATEWAY_MAC):
        """An IP packet, to the gateway's MAC address unless told otherwise."""
        self.send_frame(frame(packet, source_mac or self.mac, destination_mac))

    def send_frame(self, octets):
        self.socket.send(octets)

    def receive(self):
        """The next frame from outside, or None: what this interface sends itself is left out."""
        while True:
            try:
                octets, address = self.socket.recvfrom(65536)
            except BlockingIOError:
                return None
            except OSError as error:
                if error.errno == errno.ENETDOWN:
                    return None  # told once when the interface goes down, or was when the socket was made
                raise
            if address[2] != socket.PACKET_OUTGOING:
                return octets

    def seen_until(self, fence, seconds=5):
        """Every frame from outside up to the first that holds `fence`; fails without one."""
        frames = []
        deadline = time.monotonic() + seconds
        while True:
            octets = self.receive()
            if octets is None:
                left = deadline - time.monotonic()
                if left <= 0:
                    raise Claim(f"the packet that must arrive last did not reach {self.name} within {seconds} s")
                select.select([self.socket], [], [], left)
                continue
            frames.append(octets)
            if fence in octets:
                return frames

    def drain(self):
        while self.receive() is not None:
            pass

    def close(self):
        self.socket.close()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()


def contains(frames, marker):
    return [octets for octets in frames if marker in octets]


_serial = 0


def marker(word):
    """Octets that appear in no other packet."""
    global _serial
    _serial += 1
    return f"<{word}:{os.getpid()}:{_serial}>".encode()


def reassembled(frames):
    """Frames with whole packets: fragments joined, without what lacks a part. Of pieces that overlap the first one counts."""
    whole, parts = [], {}
    for octets in frames:
        kind = octets[12:14]
        if kind == b"\x08\0" and struct.unpack("!H", octets[20:22])[0] & 0x3FFF:
            word, start = struct.unpack("!H", octets[20:22])[0], 14 + (octets[14] & 15) * 4
            length = struct.unpack("!H", octets[16:18])[0] + 14
            key, offset, more, protocol = (octets[26:34], octets[18:20], octets[23]), (word & 0x1FFF) * 8, bool(word & 0x2000), octets[23]
        elif kind == b"\x86\xdd" and octets[20] == 44:
            word, start = struct.unpack("!H", octets[56:58])[0], 62
            length = struct.unpack("!H", octets[18:20])[0] + 54
            key, offset, more, protocol = (octets[22:54], octets[58:62]), word & 0xFFF8, bool(word & 1), octets[54]
        else:
            whole.append(octets)
            continue
        entry = parts.setdefault(key, {"pieces": {}, "end": None})
        entry["pieces"].setdefault(offset, octets[start:length])
        if offset == 0:
            header = bytearray(octets[:34] if kind == b"\x08\0" else octets[:54])
            header[23 if kind == b"\x08\0" else 20] = protocol
            entry["header"] = bytes(header)
        if not more:
            entry["end"] = offset + length - start
    for entry in parts.values():
        joined = b""
        for offset in sorted(entry["pieces"]):
            if offset > len(joined):
                break
            joined += entry["pieces"][offset][len(joined) - offset:]
        if "header" in entry and entry["end"] is not None and len(joined) >= entry["end"]:
            header = entry["header"]
            if header[12:14] == b"\x08\0":
                header = header[:14] + b"\x45" + header[15:20] + b"\0\0" + header[22:]
            whole.append(header + joined)
    return whole
