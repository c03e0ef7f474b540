"""What a workload that plays by no rules can do: spoof, inject, slip past policy, mislead the host. Everything below must come to nothing.

Absence is proved without waiting: after the forbidden packets a permitted one is sent the same way, and when the observer has seen that
one, what was sent before it has either arrived or never will. Each way of sending is first shown to work where it is allowed.
"""

import contextlib
import os
import re
import socket
import struct

from claims import Claim, expect, expect_equal, wait_until
from labs import Capture, inside, run
from packets import (
    ACK, GRE, ICMP, ICMP6, IP6, IPIP, PSH, RST, SCTP, SYN, TCP, UDP, Port, arp, contains, fragment_header, icmp4, icmp6, ip_packet, ipv4,
    ipv6, marker, options_header, packed, reassembled, routing_header, tcp, udp)
from traffic import Echo, ping, tcp_reaches, udp_echo

OPEN_UDP, SHUT_UDP, OPEN_TCP, SHUT_TCP = 5000, 5001, 80, 22
FAMILIES = (4, 6)


def steady():
    """All packets of this process from one processor, so that they stay in the order they were sent in."""
    os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})


def _fence(port, source, destination):
    """Sends the permitted packet that closes a row of forbidden ones; returns its mark."""
    mark = marker("fence")
    port.send(ip_packet(source, destination, UDP, udp(source, destination, 40999, OPEN_UDP, mark)))
    return mark


def spoofed_addresses(lab):
    """With the address really added inside, sent by the workload's own kernel; watched at the receiver and on the host's uplink."""
    loads = lab.workloads()
    attacker, receiver = loads["client-2"], loads["web-2"]
    for victim in (loads["web-1"], loads["client-1"], loads["db-1"]):
        for family in FAMILIES:
            stolen, own, target = victim.address(family), attacker.address(family), receiver.address(family)
            length = 32 if family == 4 else 128
            run("ip", "netns", "exec", attacker.namespace, "ip", "address", "add", f"{stolen}/{length}", "dev", "eth0", *(["nodad"] if family == 6 else []), check=True)
            # tcpdump names addresses; a stolen one that is never seen needs no more than its name.
            uplink = Capture(lab.namespace("host1"), "eth0", f"udp and dst host {target}")
            try:
                with Port(receiver.namespace) as watch, Port(attacker.namespace) as raw, inside(attacker.namespace):
                    bad, good = marker("spoof"), marker("honest")
                    for source, octets in ((stolen, bad), (own, good)):
                        with socket.socket(socket.AF_INET if family == 4 else socket.AF_INET6, socket.SOCK_DGRAM) as client:
                            client.bind((source, 0))
                            client.sendto(octets, (target, OPEN_UDP))
                    frames = watch.seen_until(_fence(raw, own, target))
                    expect(contains(frames, good), f"a datagram from {attacker.name}'s own {own} to arrive")
                    expect(not contains(frames, bad), f"nothing from {victim.name}'s {stolen}, sent by {attacker.name}, at the receiver")
                wait_until(lambda: f"tcpdump on the uplink shows the honest packets: {uplink.text}", 5,
                           lambda: sum(f"{own}." in line for line in uplink.packets()) >= 2)
            finally:
                uplink.end()
                run("ip", "netns", "exec", attacker.namespace, "ip", "address", "del", f"{stolen}/{length}", "dev", "eth0")
            expect(f"{stolen}." not in uplink.text, f"nothing from {stolen} on host1's uplink", uplink.text)


def spoofed_in_established_flows(lab):
    """Segments and datagrams that fit an established flow to the number, made by neighbours of either end."""
    loads = lab.workloads()
    client, server = loads["client-1"], loads["web-1"]
    beside_server, beside_client = loads["client-2"], loads["web-2"]
    for family in FAMILIES:
        source, target = client.address(family), server.address(family)
        kind = socket.AF_INET if family == 4 else socket.AF_INET6
        with Port(server.namespace) as watch, Echo(server.namespace, tcp=[OPEN_TCP], udp=[OPEN_UDP]) as echo, contextlib.ExitStack() as stack:
            ports = {w.name: stack.enter_context(Port(w.namespace)) for w in (client, beside_server, beside_client)}
            with inside(client.namespace):
                stream = stack.enter_context(socket.socket(kind, socket.SOCK_STREAM))
                datagrams = stack.enter_context(socket.socket(kind, socket.SOCK_DGRAM))
            for one in (stream, datagrams):
                one.settimeout(3)
                one.connect((target, OPEN_TCP if one is stream else OPEN_UDP))
                hello = marker("hello")
                one.send(hello)
                expect_equal(one.recv(4096), hello, "the echo of an established flow")
            # Sequence numbers of the last segment with data, read off the server's cable: an attacker may know everything.
            frames, sequence, acknowledgement = [], None, None
            while (octets := watch.receive()) is not None:
                frames.append(octets)
            sport = stream.getsockname()[1]
            start = 14 + (20 if family == 4 else 40)
            for octets in frames:
                if octets[start - (11 if family == 4 else 34)] == TCP and struct.unpack("!HH", octets[start:start + 4]) == (sport, OPEN_TCP) and b"<hello" in octets:
                    sequence, acknowledgement = struct.unpack("!II", octets[start + 4:start + 12])
                    sequence += len(octets) - start - (octets[start + 12] >> 4) * 4
            expect(sequence is not None, "the client's data segment on the server's cable", [octets.hex() for octets in frames][:6])
            def forge(port, mark, mac=None, flags=PSH | ACK):
                segment = tcp(source, target, sport, OPEN_TCP, flags, sequence, acknowledgement, mark)
                port.send(ip_packet(source, target, TCP, segment), source_mac=mac)
                datagram = udp(source, target, datagrams.getsockname()[1], OPEN_UDP, mark)
                port.send(ip_packet(source, target, UDP, datagram), source_mac=mac)
            for attacker in (beside_server, beside_client):
                bad = marker("inject")
                raw = ports[attacker.name]
                forge(raw, bad)
                forge(raw, bad, mac=ports[client.name].mac)
                forge(raw, b"", flags=RST)
                forge(raw, b"", flags=RST | ACK, mac=ports[client.name].mac)
                own = attacker.address(family)
                seen = watch.seen_until(_fence(raw, own, target))
                expect(not contains(seen, bad), f"nothing of {attacker.name} in the flow of client-1 (IPv{family})")
                expect(not any(bad in octets for octets in echo.received), "nothing of it given to the server's application")
                hello = marker("hello")
                for one in (stream, datagrams):
                    one.send(hello)
                    expect_equal(one.recv(4096), hello, f"the flow itself alive after {attacker.name}'s resets (IPv{family})")
                frames = watch.seen_until(_fence(ports[client.name], source, target))
                for octets in contains(frames, hello):
                    if octets[start - (11 if family == 4 else 34)] == TCP:
                        sequence, acknowledgement = struct.unpack("!II", octets[start + 4:start + 12])
                        sequence += len(hello)
            # The same forgery from the flow's owner arrives: it was well made.
            good = marker("owner")
            forge(ports[client.name], good)
            frames = watch.seen_until(_fence(ports[client.name], source, target))
            expect_equal(len(contains(frames, good)), 2, "forgeries by the flow's own workload that arrive")
            wait_until("the server's application has both", 2, lambda: sum(good in octets for octets in echo.received) == 2)


def mac_and_neighbour_claims(lab):
    """Another MAC address as the sender; ARP and neighbour advertisements that claim others' addresses."""
    loads = lab.workloads()
    attacker, victim, friend = loads["client-2"], loads["web-1"], loads["client-1"]
    with Port(attacker.namespace) as raw, Port(victim.namespace) as watch:
        for family in FAMILIES:
            own, target = attacker.address(family), victim.address(family)
            bad = marker("mac")
            for mac in (watch.mac, bytes.fromhex("020000000001"), bytes.fromhex("eeeeeeeeeeee")):
                raw.send(ip_packet(own, target, UDP, udp(own, target, 40000, OPEN_UDP, bad)), source_mac=mac)
            frames = watch.seen_until(_fence(raw, own, target))
            expect(not contains(frames, bad), f"nothing from {attacker.name} under another MAC address (IPv{family})")

        def neighbours():
            """The host's entries that decide where packets go: of the victim and of the router."""
            lines = lab.exec("host1", "ip", "neigh", "show", check=True).splitlines()
            device = lab.interface(victim)
            return sorted(re.sub(r" (ref|used|probes) \S+| (REACHABLE|STALE|DELAY|PROBE)$", "", line) for line in lines
                          if f"dev {device} " in line or "dev eth0" in line)
        for address in (friend.v4, friend.v6):
            expect(ping(victim.namespace, address), "web-1 to reach client-1")
        before = neighbours()
        routes = [lab.exec("host1", "ip", "route", "get", address, check=True) for address in (victim.v4, victim.v6, "172.30.2.2", "fd30:0:0:2::2")]
        claimed = [victim.v4, "172.30.1.1", "172.30.1.2", friend.v4, "169.254.1.1"]
        everyone = b"\xff" * 6
        for address in claimed:
            for destination in (everyone, bytes.fromhex("eeeeeeeeeeee")):
                raw.send_frame(arp(1, raw.mac, address, b"\0" * 6, address, destination))  # gratuitous request
                raw.send_frame(arp(2, raw.mac, address, everyone, address, destination))  # gratuitous answer
                raw.send_frame(arp(2, raw.mac, address, bytes.fromhex("eeeeeeeeeeee"), "169.254.1.1", destination))
                raw.send_frame(arp(1, raw.mac, address, b"\0" * 6, "169.254.1.1", destination))
        gateway6 = "fe80::ecee:eeff:feee:eeee"
        for address in (victim.v6, "fd30:0:0:1::1", "fd30:0:0:1::2", friend.v6):
            body = struct.pack("!I", 0x60000000) + packed(address) + b"\x02\x01" + raw.mac
            link_local = "fe80::" + ":".join(f"{a:x}" for a in struct.unpack("!4H", _modified_eui(raw.mac)))
            for sender in (address, link_local):
                for to in ("ff02::1", gateway6):
                    raw.send(ipv6(sender, to, ICMP6, icmp6(sender, to, 136, 0, body), hops=255))
        for address in (victim.v4, victim.v6):
            ours = marker("delivery")
            with Port(friend.namespace) as sender:
                raw.drain()
                source = friend.v6 if ":" in address else friend.v4
                sender.send(ip_packet(source, address, UDP, udp(source, address, 40001, OPEN_UDP, ours)))
                watch.seen_until(ours)
                caught = []
                while (octets := raw.receive()) is not None:
                    caught.append(octets)
                expect(not contains(caught, ours), f"nothing of web-1's delivered to {attacker.name}")
        for address in (friend.v4, friend.v6):
            expect(ping(victim.namespace, address), "web-1 to reach client-1 after the claims")
            expect(ping(attacker.namespace, address), "client-2 to reach client-1 after its own claims")
        expect_equal(neighbours(), before, "the host's neighbours for web-1 and on its uplink")
        after = [lab.exec("host1", "ip", "route", "get", address, check=True) for address in (victim.v4, victim.v6, "172.30.2.2", "fd30:0:0:2::2")]
        strip = lambda texts: [re.sub(r"\s+", " ", re.sub(r"expires \S+|cache|uid \d+", "", text)).strip() for text in texts]
        expect_equal(strip(after), strip(routes), "the host's ways")


def _modified_eui(mac):
    return bytes([mac[0] ^ 2]) + mac[1:3] + b"\xff\xfe" + mac[3:]


def fragments(lab):
    """Large datagrams, tiny and overlapping fragments: the port that is denied stays denied, the one that is open works."""
    loads = lab.workloads()
    client, web = loads["client-1"], loads["web-1"]
    for family in FAMILIES:
        source, target = client.address(family), web.address(family)
        with Echo(web.namespace, udp=[OPEN_UDP, SHUT_UDP]) as echo, Port(client.namespace) as raw, Port(web.namespace) as watch:
            big = marker("big") + b"x" * 8000
            expect(udp_echo(client.namespace, target, OPEN_UDP, big, 3), f"a fragmented datagram to reach the open port (IPv{family})")
            shut = marker("shut") + b"y" * 8000
            expect(not udp_echo(client.namespace, target, SHUT_UDP, shut, 0.3), f"no fragmented datagram at the denied port (IPv{family})")
            identification = 4711
            def pieces(transport, protocol, cuts):
                """The transport's octets cut at `cuts` as fragments of one packet: (offset, octets, more)."""
                nonlocal identification
                identification += 1
                bounds = [0, *cuts, len(transport)]
                return [(a, transport[a:b], b < len(transport)) for a, b in zip(bounds, bounds[1:])], protocol, identification
            def send(parts):
                fragments, protocol, identifier = parts
                for offset, octets, more in fragments:
                    if family == 4:
                        raw.send(ipv4(source, target, protocol, octets, identifier, offset, more))
                    else:
                        raw.send(ipv6(source, target, 44, fragment_header(protocol, offset, more, identifier) + octets))
            def arrives(mark, frames):
                return bool(contains(frames, mark))
            good, bad = marker("tiny-open"), marker("tiny-shut")
            # The smallest first fragment there is, eight octets: ports, but not the flags of TCP. IPv6 wants the whole header in the
            # first (RFC 8200, section 4.5), so what shall arrive is cut behind it.
            send(pieces(tcp(source, target, 41000, OPEN_TCP, SYN, payload=good), TCP, [8, 16] if family == 4 else [24, 32]))
            send(pieces(tcp(source, target, 41001, SHUT_TCP, SYN, payload=bad), TCP, [8, 16]))
            send(pieces(tcp(source, target, 41001, SHUT_TCP, SYN, payload=bad), TCP, [24, 32]))
            send(pieces(udp(source, target, 41002, SHUT_UDP, bad), UDP, [8]))
            # Last piece first: ports come at the end.
            parts, protocol, identifier = pieces(udp(source, target, 41003, SHUT_UDP, bad + b"z" * 64), UDP, [8, 40])
            send((parts[::-1], protocol, identifier))
            # One packet in one fragment, with a fragment header all the same.
            if family == 6:
                raw.send(ipv6(source, target, 44, fragment_header(UDP, 0, False, 99) + udp(source, target, 41004, SHUT_UDP, bad)))
                raw.send(ipv6(source, target, 44, fragment_header(TCP, 0, False, 100) + tcp(source, target, 41005, SHUT_TCP, SYN, payload=bad)))
                # The transport's header only in the second fragment: the first is nothing but options.
                chain = options_header(UDP) + udp(source, target, 41006, SHUT_UDP, bad)
                send(pieces(chain, 60, [8]))
            # Overlap: the first says an open port, a later one writes the denied port over it; also the other way round, and with the
            # same offset twice.
            for protocol, open_, shut_ in (
                (TCP, tcp(source, target, 41010, OPEN_TCP, SYN, payload=bad), tcp(source, target, 41010, SHUT_TCP, SYN, payload=bad)),
                (UDP, udp(source, target, 41011, OPEN_UDP, bad + b"o" * 24), udp(source, target, 41011, SHUT_UDP, bad + b"o" * 24)),
            ):
                for first, second in ((open_, shut_), (shut_, open_)):
                    identification += 1
                    end = len(first) & ~7
                    send(([(0, first[:end], True), (0, second[:end], True), (end, first[end:], False)], protocol, identification))
                    identification += 1
                    send(([(0, first[:16], True), (8, second[8:end], True), (0, second[:16], True), (end, second[end:], False)], protocol, identification))
                    identification += 1
                    send(([(end, first[end:], False), (8, second[8:end], True), (0, first[:8], True), (0, second[:8], True)], protocol, identification))
            # The host puts packets together and cuts them again: what matters is what the receiver can put together.
            frames = reassembled(watch.seen_until(_fence(raw, source, target)))
            expect(arrives(good, frames), f"TCP to the open port in small fragments to arrive (IPv{family})")
            for octets in contains(frames, bad):
                port = _destination_port(octets)
                if port is None:
                    continue  # ICMP that quotes an answer of the server's
                expect(port in (OPEN_TCP, OPEN_UDP), f"no fragment trick to reach a denied port (IPv{family})", f"port {port}: {octets.hex()[:160]}")
            expect(not any(shut[:20] in octets or bad in octets and b"z" in octets for octets in echo.received), "nothing given to the application")


def _destination_port(octets):
    """Of a whole packet in a frame, behind whatever extension headers; None for ICMP."""
    if octets[12:14] == b"\x08\0":
        kind, start = octets[23], 14 + (octets[14] & 15) * 4
    else:
        kind, start = octets[20], 54
        while kind in (0, 43, 60):
            kind, start = octets[start], start + (octets[start + 1] + 1) * 8
    if kind in (ICMP, ICMP6):
        return None
    return struct.unpack("!H", octets[start + 2:start + 4])[0]


def unlisted_protocols(lab):
    """A policy that allows TCP and UDP ports and ICMP denies every other protocol number there is."""
    loads = lab.workloads()
    client, web, open_ = loads["client-1"], loads["web-1"], loads["client-2"]
    for family in FAMILIES:
        source, target, control = client.address(family), web.address(family), open_.address(family)
        # Numbers that are extension headers of IPv6 have claims of their own.
        extension = {0, 43, 44, 50, 51, 59, 60, 135, 139, 140}
        # 1 and 58 are allowed from clients, 6 and 17 have ports; in the other family ICMP's number is a protocol like any other.
        allowed = {TCP, UDP, ICMP, ICMP6}
        numbers = [n for n in range(256) if n not in allowed and not (family == 6 and n in extension)]
        with Port(client.namespace) as raw, Port(web.namespace) as watch, Port(open_.namespace) as watch_control:
            bad, good = marker("protocol"), marker("control")
            for number in numbers:
                inner = tcp(source, target, 42000, OPEN_TCP, SYN)
                body = struct.pack("!HH", 42000, OPEN_TCP) + b"\0" * 4 + bad
                raw.send(ip_packet(source, target, number, body))
                if number in (IPIP, IP6):
                    raw.send(ip_packet(source, target, number, ip_packet(source, target, TCP, inner) + bad))
            for number in (GRE, 253, SCTP, IPIP):
                raw.send(ip_packet(source, control, number, struct.pack("!HH", 42000, OPEN_TCP) + b"\0" * 4 + good))
            frames = watch.seen_until(_fence(raw, source, target))
            seen = sorted({octets[23] if family == 4 else octets[20] for octets in contains(frames, bad)})
            expect(not seen, f"no unlisted protocol at web-1 (IPv{family})", f"protocols {seen}")
            control_frames = watch_control.seen_until(_fence(raw, source, control))
            arrived = {octets[23] if family == 4 else octets[20] for octets in contains(control_frames, good)}
            # SCTP's header is looked into by connection tracking, which may find it wrong; the others pass where a profile allows all.
            # A workload's IPIP is no policy's business: it could carry packets past every policy, inside.
            expect(arrived >= {GRE, 253} and IPIP not in arrived, f"the same protocols to arrive where everything is allowed, but for IPIP (IPv{family})", arrived)
    return "252 numbers of IPv4, 243 of IPv6"


def extension_headers(lab):
    """IPv6 extension headers before TCP and UDP hide nothing: neither what a rule allows nor what one denies."""
    loads = lab.workloads()
    client, web, database, other = loads["client-1"], loads["web-1"], loads["db-1"], loads["client-2"]

    def chains(protocol):
        """(first header, octets before the transport, in words)"""
        yield 60, options_header(protocol), "destination options"
        yield 0, options_header(protocol), "hop-by-hop"
        yield 43, routing_header(protocol), "routing"
        yield 60, options_header(60) + options_header(60) + options_header(60) + options_header(protocol), "four destination options"
        yield 0, options_header(43) + routing_header(60) + options_header(protocol), "hop-by-hop, routing, destination options"
        yield 44, fragment_header(protocol, 0, False, 7), "atomic fragment"
        yield 60, options_header(44) + fragment_header(60, 0, False, 8) + options_header(protocol), "options, fragment, options"

    with Port(client.namespace) as raw, Port(web.namespace) as watch:
        source, target = client.v6, web.v6
        bad, good = marker("hidden"), []
        for protocol, shut, open_ in (
            (TCP, tcp(source, target, 43000, SHUT_TCP, SYN, payload=bad), OPEN_TCP), (UDP, udp(source, target, 43000, SHUT_UDP, bad), OPEN_UDP)
        ):
            for first, octets, words in chains(protocol):
                raw.send(ipv6(source, target, first, octets + shut))
                mark = marker("plain")
                good.append((mark, f"{words} before {'TCP' if protocol == TCP else 'UDP'} to an open port"))
                body = tcp(source, target, 43001, OPEN_TCP, SYN, payload=mark) if protocol == TCP else udp(source, target, 43001, OPEN_UDP, mark)
                raw.send(ipv6(source, target, first, octets + body))
        # No transport at all, and one whose header is cut off.
        raw.send(ipv6(source, target, 59, bad))
        raw.send(ipv6(source, target, 60, options_header(59) + bad))
        raw.send(ipv6(source, target, 50, bad + b"\0" * 16))
        frames = watch.seen_until(_fence(raw, source, target))
        expect(not contains(frames, bad), "no denied port behind extension headers", [octets.hex()[:200] for octets in contains(frames, bad)][:3])
        missing = [words for mark, words in good if not contains(frames, mark)]
        expect(not missing, "an open port to be reached behind the same headers", missing)

    # The database may not open TCP, and may send everything else: here hiding would mean passing.
    with Port(database.namespace) as raw, Port(other.namespace) as watch:
        source, target = database.v6, other.v6
        bad = marker("hidden-egress")
        for first, octets, words in chains(TCP):
            raw.send(ipv6(source, target, first, octets + tcp(source, target, 43002, OPEN_TCP, SYN, payload=bad)))
        raw.send(ipv6(source, target, 44, fragment_header(TCP, 0, True, 21) + tcp(source, target, 43003, OPEN_TCP, SYN, payload=b"")[:16]))
        raw.send(ipv6(source, target, 44, fragment_header(TCP, 16, False, 21) + tcp(source, target, 43003, OPEN_TCP, SYN, payload=b"")[16:] + bad))
        frames = watch.seen_until(_fence(raw, source, target))
        expect(not contains(frames, bad), "no TCP from the database behind extension headers", [octets.hex()[:200] for octets in contains(frames, bad)][:3])


def both_families(lab):
    """What IPv4 may not, IPv6 may not either; and nothing that stands between them (mapped addresses) helps."""
    loads = lab.workloads()
    client, web, intruder, database = loads["client-1"], loads["web-1"], loads["intruder"], loads["db-1"]
    with Echo(web.namespace, tcp=[OPEN_TCP, SHUT_TCP], udp=[SHUT_UDP]), Echo(database.namespace, tcp=[5432, OPEN_TCP], udp=[53]):
        for family in FAMILIES:
            to_web, to_database = web.address(family), database.address(family)
            expect(tcp_reaches(client.namespace, to_web, OPEN_TCP, 2), f"client-1 to reach web-1:80 (IPv{family})")
            expect(not tcp_reaches(client.namespace, to_web, SHUT_TCP, 0.3), f"client-1 not to reach web-1:22 (IPv{family})")
            expect(not udp_echo(client.namespace, to_web, SHUT_UDP, b"x", 0.3), f"no UDP 5001 at web-1 (IPv{family})")
            expect(tcp_reaches(web.namespace, to_database, 5432, 2), f"web-1 to reach db-1:5432 (IPv{family})")
            expect(not tcp_reaches(client.namespace, to_database, 5432, 0.3), f"client-1 not to reach db-1:5432 (IPv{family})")
            expect(not tcp_reaches(intruder.namespace, to_web, OPEN_TCP, 0.3), f"the intruder not to reach web-1:80 (IPv{family})")
            expect(not tcp_reaches(intruder.namespace, to_database, 5432, 0.3), f"the intruder not to reach its neighbour db-1 (IPv{family})")
            expect(not ping(intruder.namespace, to_web, 0.3), f"the intruder not to ping web-1 (IPv{family})")
            expect(ping(client.namespace, to_web), f"client-1 to ping web-1 (IPv{family})")
    with Port(client.namespace) as raw, Port(web.namespace) as watch:
        bad = marker("mapped")
        mapped, target = f"::ffff:{client.v4}", web.v6
        raw.send(ipv6(mapped, target, UDP, udp(mapped, target, 44000, OPEN_UDP, bad)))
        raw.send(ipv6("::", target, UDP, udp("::", target, 44000, OPEN_UDP, bad)))
        raw.send(ipv6("fe80::1", target, UDP, udp("fe80::1", target, 44000, OPEN_UDP, bad)))
        raw.send(ipv6("ff02::1", target, UDP, udp("ff02::1", target, 44000, OPEN_UDP, bad)))
        raw.send(ipv6("::1", target, UDP, udp("::1", target, 44000, OPEN_UDP, bad)))
        for wrong in ("0.0.0.0", "127.0.0.1", "255.255.255.255", "224.0.0.1", "169.254.1.1", "172.30.2.2"):
            raw.send(ipv4(wrong, web.v4, UDP, udp(wrong, web.v4, 44000, OPEN_UDP, bad)))
        frames = watch.seen_until(_fence(raw, client.v6, web.v6))
        frames += watch.seen_until(_fence(raw, client.v4, web.v4))
        expect(not contains(frames, bad), "nothing from addresses that nobody has", [octets.hex()[:120] for octets in contains(frames, bad)][:3])


def advertisements_and_redirects(lab):
    """Router advertisements and redirects: the rules stop them even on an interface that would believe them."""
    loads = lab.workloads()
    attacker, friend = loads["client-2"], loads["client-1"]
    device = lab.interface(attacker)
    settings = {
        f"net.ipv6.conf.{device}.accept_ra": "2", f"net.ipv6.conf.{device}.accept_redirects": "1", f"net.ipv4.conf.{device}.accept_redirects": "1",
        f"net.ipv4.conf.{device}.secure_redirects": "0", "net.ipv4.conf.all.accept_redirects": "1",
    }
    before_settings = {key: lab.exec("host1", "sysctl", "-n", key, check=True).strip() for key in settings}
    for key, value in settings.items():
        lab.exec("host1", "sysctl", "-qw", f"{key}={value}", check=True)
    def state():
        routes = [line for line in lab.routes("host1") if "ff00::/8" not in line]
        addresses = lab.exec("host1", "ip", "-o", "-6", "address", "show", "dev", device, check=True)
        ways = [re.sub(r"expires \d+sec|\s+", " ", lab.exec("host1", "ip", "route", "get", a, check=True)) for a in (friend.v4, friend.v6, attacker.v4, "172.30.2.2", "fd30:0:0:2::2")]
        return routes, addresses, ways
    def counted(words):
        return sum(e["counter"]["packets"] for r in lab.rules("host1") if r.get("rule", {}).get("comment") == words
                   for e in r["rule"]["expr"] if "counter" in e)
    try:
        with Port(attacker.namespace) as raw:
            before = state()
            ra, redirect = counted("router advertisement from a workload"), counted("redirect from a workload")
            link_local = "fe80::" + ":".join(f"{a:x}" for a in struct.unpack("!4H", _modified_eui(raw.mac)))
            gateway6 = "fe80::ecee:eeff:feee:eeee"
            prefix = struct.pack("!BBBBIII", 3, 4, 64, 0xC0, 3600, 3600, 0) + packed("fd99::")
            body = struct.pack("!BBHII", 64, 0, 1800, 0, 0) + prefix + b"\x01\x01" + raw.mac
            for sender in (link_local, gateway6, attacker.v6):
                for to in ("ff02::1", gateway6):
                    raw.send(ipv6(sender, to, ICMP6, icmp6(sender, to, 134, 0, body), hops=255))
            for head, words in ((options_header(ICMP6), 60), (options_header(ICMP6), 0)):
                raw.send(ipv6(link_local, "ff02::1", words, head + icmp6(link_local, "ff02::1", 134, 0, body), hops=255))
            quoted6 = ipv6("fd30:0:0:1::2", friend.v6, UDP, udp("fd30:0:0:1::2", friend.v6, 1, 2, b""))
            target6 = packed(attacker.v6) + packed(friend.v6) + b"\x02\x01" + raw.mac + b"\x04\x07" + b"\0" * 6 + quoted6
            for sender in (link_local, gateway6):
                raw.send(ipv6(sender, gateway6, ICMP6, icmp6(sender, gateway6, 137, 0, struct.pack("!I", 0) + target6), hops=255))
            quoted4 = ipv4("172.30.1.2", friend.v4, UDP, udp("172.30.1.2", friend.v4, 1, 2, b""))
            for sender in (attacker.v4, "172.30.1.1", "169.254.1.1"):
                for to in ("172.30.1.2", "169.254.1.1"):
                    raw.send(ipv4(sender, to, ICMP, icmp4(5, 1, packed(attacker.v4) + quoted4)))
            # Permitted and answered by the host itself, after all of the above has been through it.
            expect(ping(attacker.namespace, friend.v6) and ping(attacker.namespace, friend.v4), "client-2 to reach client-1 afterwards")
            after = state()
            for what, was, now in zip(("routes", "IPv6 addresses", "ways"), before, after):
                expect_equal(now, was, f"host1's {what}")
            expect(counted("router advertisement from a workload") >= ra + 6, "every advertisement counted by its rule",
                   counted("router advertisement from a workload") - ra)
            expect(counted("redirect from a workload") >= redirect + 2, "every redirect of IPv6 counted by its rule",
                   counted("redirect from a workload") - redirect)
    finally:
        for key, value in before_settings.items():
            lab.exec("host1", "sysctl", "-qw", f"{key}={value}")


def host_out_of_reach(lab):
    """DefaultEndpointToHostAction is Drop: no address of its own host answers a workload on any port."""
    loads = lab.workloads()
    workload = loads["client-2"]
    listening = lab.exec("host1", "ss", "-Hltun", check=True)
    places = {line.split()[4] for line in listening.splitlines()}
    local = {place for place in places if place.startswith(("127.", "[::1]"))}
    expect_equal({place.rsplit(":", 1)[1] for place in places - local}, {"179"}, "ports of host1 that others can reach: BGP, and no datastore and no status")
    expect_equal({place.rsplit(":", 1)[1] for place in local}, {"9094", "9097", "9099"}, "ports of host1's loopback: the health of controllers, bgp and felix")
    with inside(lab.namespace("rack")):
        for address in ("172.30.1.2", "fd30:0:0:1::2"):
            with socket.create_connection((address, 179), 3):
                pass  # The host's neighbour does reach it, so silence below is the rules' doing.
    targets = ["172.30.1.2", "169.254.1.1", "fd30:0:0:1::2"]
    for address in targets:
        expect(not tcp_reaches(workload.namespace, address, 179, 0.3), f"client-2 not to reach its host at {address}:179")
        expect(not udp_echo(workload.namespace, address, 53, b"x", 0.2), f"nothing from {address}:53")
    for address in targets + ["fe80::ecee:eeff:feee:eeee%eth0"]:
        expect(not ping(workload.namespace, address, 0.3), f"client-2 not to ping its host at {address}")
    with inside(workload.namespace), socket.socket(socket.AF_INET6, socket.SOCK_STREAM) as client:
        client.settimeout(0.3)
        try:
            client.connect(("fe80::ecee:eeff:feee:eeee", 179, 0, socket.if_nametoindex("eth0")))
            raise Claim("client-2 reaches its host's link-local address, port 179")
        except OSError:
            pass
    # The host itself may speak to its workloads (health checks), and is answered.
    for address in (workload.v4, workload.v6):
        expect(lab.exec("host1", "ping", "-n", "-c", "1", "-W", "2", address).code == 0, f"host1 to ping its workload at {address}")


def unknown_interface(lab):
    """An interface with a workload's name that no endpoint has: nothing in, nothing out, whatever routes say."""
    loads = lab.workloads()
    client, web = loads["client-1"], loads["web-1"]
    namespace = lab.namespace("stranger")
    block = next(line for line in lab.routes("host1") if line.startswith("blackhole 10.65."))
    base = block.split()[1].split("/")[0].rsplit(".", 1)
    address4, address6 = f"{base[0]}.{int(base[1]) + 50}", "fd65::1a:9:9"
    def ip(*words):
        run("ip", "netns", "exec", namespace, "ip", *words, check=True)
    run("ip", "netns", "add", namespace, check=True)
    try:
        lab.exec("host1", "ip", "link", "add", "calistranger", "type", "veth", "peer", "name", "eth0", "netns", namespace, check=True)
        lab.exec("host1", "ip", "link", "set", "calistranger", "address", "ee:ee:ee:ee:ee:ee", check=True)
        lab.exec("host1", "ip", "link", "set", "calistranger", "up", check=True)
        ip("link", "set", "lo", "up")
        ip("link", "set", "eth0", "up")
        ip("address", "add", f"{address4}/32", "dev", "eth0")
        ip("address", "add", f"{address6}/128", "dev", "eth0", "nodad")
        ip("route", "add", "169.254.1.1", "dev", "eth0", "scope", "link")
        ip("route", "add", "default", "via", "169.254.1.1", "dev", "eth0")
        ip("-6", "route", "add", "default", "via", "fe80::ecee:eeff:feee:eeee", "dev", "eth0")
        for gateway in ("169.254.1.1", "fe80::ecee:eeff:feee:eeee"):
            ip("neigh", "replace", gateway, "lladdr", "ee:ee:ee:ee:ee:ee", "dev", "eth0", "nud", "permanent")
        with Port(namespace) as stranger, Port(web.namespace) as watch, Port(client.namespace) as sender, Port(loads["client-2"].namespace) as honest:
            mac = ":".join(f"{octet:02x}" for octet in stranger.mac)
            def host_side(device):
                for address in (address4, address6):
                    lab.exec("host1", "ip", "route", "replace", address, "dev", device, "proto", "static", check=True)
                    lab.exec("host1", "ip", "neigh", "replace", address, "lladdr", mac, "dev", device, "nud", "permanent", check=True)
            # The rack needs a way for the IPv6 address, which is in no block of host1.
            lab.exec("rack", "ip", "route", "replace", address6, "via", "fd30:0:0:1::2", check=True)
            lab.exec("host2", "ip", "route", "replace", address6, "via", "fd30:0:0:2::1", check=True)
            host_side("calistranger")
            for family, address in ((4, address4), (6, address6)):
                target, source, near = web.address(family), client.address(family), loads["client-2"].address(family)
                out, into = marker("from-stranger"), marker("to-stranger")
                stranger.send(ip_packet(address, target, UDP, udp(address, target, 45000, OPEN_UDP, out)))
                frames = watch.seen_until(_fence(honest, near, target))
                expect(not contains(frames, out), f"nothing from an unknown interface (IPv{family})")
                # From another host, from a workload of the same host, and from the host itself.
                sender.send(ip_packet(source, address, UDP, udp(source, address, 45001, OPEN_UDP, into)))
                honest.send(ip_packet(near, address, UDP, udp(near, address, 45001, OPEN_UDP, into)))
                lab.exec("host1", "ping", "-n", "-c", "1", "-W", "0.2", address)
                watch.seen_until(_fence(sender, source, target))
                watch.seen_until(_fence(honest, near, target))
                caught = []
                while (octets := stranger.receive()) is not None:
                    caught.append(octets)
                caught = [octets for octets in caught if octets[12:14] == b"\x08\0" or octets[12:14] == b"\x86\xdd" and octets[20] == UDP]
                expect(not caught, f"nothing to an unknown interface (IPv{family})", [octets.hex()[:100] for octets in caught][:2])
            # The same cable under a name that is none of ours: everything passes, so the cable and the routes were right.
            lab.exec("host1", "ip", "link", "set", "calistranger", "down", check=True)
            lab.exec("host1", "ip", "link", "set", "calistranger", "name", "tapstranger", check=True)
            lab.exec("host1", "ip", "link", "set", "tapstranger", "up", check=True)
            host_side("tapstranger")
            wait_until("the stranger's cable is up", 3, lambda: "state UP" in run("ip", "netns", "exec", namespace, "ip", "link", "show", "eth0"))
            for family, address in ((4, address4), (6, address6)):
                source = client.address(family)
                into, out = marker("to-tap"), marker("from-tap")
                sender.send(ip_packet(source, address, UDP, udp(source, address, 45002, OPEN_UDP, into)))
                stranger.seen_until(into)
                target = web.address(family)
                stranger.send(ip_packet(address, target, UDP, udp(address, target, 45003, OPEN_UDP, out)))
                watch.seen_until(out)
    finally:
        lab.exec("host1", "ip", "link", "delete", "calistranger")
        lab.exec("host1", "ip", "link", "delete", "tapstranger")
        lab.exec("rack", "ip", "route", "delete", address6)
        lab.exec("host2", "ip", "route", "delete", address6)
        run("ip", "netns", "delete", namespace)
