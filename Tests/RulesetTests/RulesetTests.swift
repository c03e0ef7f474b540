/// The encoding against two readers that share no code with it: the kernel, which takes it, and `nft`, which prints it.

import Addresses
import KernelSandbox
import NetlinkEdge
import RulesetDriver
import Rulesets
import Testing

func prefix(_ text: String) -> IPPrefix { IPPrefix(text)! }
func name(_ text: String) -> [UInt8] { KeyOctets.interfaceName(text)! }
func ip(_ text: String) -> [UInt8] { IPAddress(text)!.octets }

/// One of everything that can be said.
func sample() -> RulesetDelta {
  var delta = RulesetDelta()
  delta.sets = [
    "hosts4": SetSpec(.ipv4, comment: "app == 'web'"),
    "nets4": SetSpec(.ipv4, isInterval: true),
    "nets6": SetSpec(.ipv6, isInterval: true),
    "ports": SetSpec(.port, isInterval: true),
    "served4": SetSpec(.ipv4, .protocolNumber, .port),
    "source4": SetSpec(.interfaceName, .ether, .ipv4),
    "source6": SetSpec(.interfaceName, .ether, .ipv6),
    "sourcenets4": SetSpec(.interfaceName, .ipv4, isInterval: true),
    "workloads": SetSpec(.interfaceName),
    "marks": SetSpec(.interfaceName, data: .value(.mark)),
    "verdicts": SetSpec(.interfaceName, data: .verdict),
    "nd": SetSpec(.icmpv6Type),
    "states": SetSpec(.ctState, data: .verdict),
    "floating4": SetSpec(.ipv4, data: .value(.ipv4)),
    "floating6": SetSpec(.ipv6, data: .value(.ipv6)),
    "hairpin4": SetSpec(.ipv4, .ipv4, data: .value(.ipv4)),
  ]
  delta.add(.address(IPAddress("10.0.0.1")!), to: "hosts4")
  for text in ["10.0.0.0/24", "10.0.1.0/24", "10.0.4.0/22", "255.255.255.0/24", "0.0.0.0/8"] { delta.add(.prefix(prefix(text)),
    to: "nets4") }
  delta.add(.prefix(prefix("fd00::/64")), to: "nets6")
  delta.add(.ports(80...80), to: "ports")
  delta.add(.ports(8000...8999), to: "ports")
  delta.add(SetElement(KeyOctets.concatenated(ip("10.0.0.1"), [6], KeyOctets.port(80))), to: "served4")
  delta.add(SetElement(KeyOctets.concatenated(name("cali1"), MACAddress("02:00:00:00:00:01")!.octets, ip("10.0.0.1"))), to: "source4")
  delta.add(SetElement(KeyOctets.concatenated(name("cali1"), MACAddress("02:00:00:00:00:01")!.octets, ip("fd00::1"))), to: "source6")
  delta.add(
    SetElement(
      KeyOctets.concatenated(name("cali1"), ip("10.2.0.0")), last: KeyOctets.concatenated(name("cali1"), ip("10.2.255.255"))),
    to: "sourcenets4")
  delta.add(SetElement(name("cali1")), to: "workloads")
  delta.add(SetElement(name("cali1"), data: .value(KeyOctets.host32(0x10000))), to: "marks")
  delta.add(SetElement(name("cali1"), data: .verdict(.goto("target"))), to: "verdicts")
  for type in [135, 136] as [UInt8] { delta.add(SetElement([type]), to: "nd") }
  delta.add(SetElement(KeyOctets.host32(ConnectionState.invalid.rawValue), data: .verdict(.drop)), to: "states")
  delta.add(SetElement(ip("192.0.2.9"), data: .value(ip("10.0.0.1"))), to: "floating4")
  delta.add(SetElement(ip("fd00::9"), data: .value(ip("fd01::1"))), to: "floating6")
  delta.add(SetElement(KeyOctets.concatenated(ip("10.0.0.1"), ip("10.0.0.1")), data: .value(ip("192.0.2.9"))), to: "hairpin4")
  let v4 = Statement.family(.v4)
  let v6 = Statement.family(.v6)
  delta.chains = [
    "target": Chain(comment: "where it leads", [ChainRule(.counter, .accept, comment: "NetworkPolicy default/allow-web ingress rule 1")]),
    "forward": Chain(hook: ChainHook(.forward, priority: 0), [
      ChainRule(.name(.inputName, startsWith: "cali"), .match(.outputName, .notEqual, name("cali1")), .counter, .drop),
      ChainRule(.connectionState([.established, .related]), .counter, .accept),
      ChainRule(.connectionState(.invalid), .counter, .drop),
      ChainRule(.verdictMap([.inputName], map: "verdicts")),
      ChainRule(v4, .transport(6), .port(.destinationPort, in: 80...80), .counter, .jump("target"), comment: "one port"),
      ChainRule(v4, .transport(6), .port(.destinationPort, in: 80...90), .counter, .jump("target"), comment: "a range"),
      ChainRule(v4, .transport(17), .port(.sourcePort, in: 53...60, negated: true), .counter, .return),
      ChainRule(.transport(17), .lookup([.destinationPort], set: "ports", negated: false), .counter, .drop),
      ChainRule(v4, .lookup([.source(.v4)], set: "hosts4", negated: false), .counter, .accept, comment: "a set"),
      ChainRule(v4, .lookup([.destination(.v4)], set: "nets4", negated: true), .counter, .accept, comment: "not a set"),
      ChainRule(v4, .address(.source(.v4), in: prefix("10.0.0.0/22")), .address(.destination(.v4), .notEqual,
        in: prefix("10.1.0.1/32")), .drop),
      ChainRule(.family(.v6), .address(.source(.v6), in: prefix("fd00::/63")), .counter, .drop),
      ChainRule(.family(.v6), .lookup([.source(.v6)], set: "nets6", negated: false), .drop),
      ChainRule(v4, .lookup([.destination(.v4), .transportProtocol, .destinationPort], set: "served4", negated: false), .counter, .accept),
      ChainRule(.transport(1), .match(.icmpType, .equal, [8]), .match(.icmpCode, .notEqual, [0]), .counter, .drop),
      ChainRule(.family(.v6), .transport(58), .lookup([.icmpType], set: "nd", negated: false), .counter, .accept),
      ChainRule(.transport(132, .notEqual), .setMarkBits(0x10000), .return),
      ChainRule(.markBitsSet(0x20000), .clearMarkBits(0x30000), .log(prefix: "calico-packet: ")),
      ChainRule(.limit(RateLimit(packets: 10, perSeconds: 1)), .log(prefix: "limited "), .counter, .drop),
    ]),
    "check": Chain(hook: ChainHook(.prerouting, priority: -300), [
      ChainRule(v4, .match(.inputType, .equal, ArpHardware.ether),
        .lookup([.inputName, .etherSource, .source(.v4)], set: "source4", negated: false), .counter, .accept),
      ChainRule(.family(.v6), .match(.inputType, .equal, ArpHardware.ether),
        .lookup([.inputName, .etherSource, .source(.v6)], set: "source6", negated: false), .counter, .accept),
      ChainRule(v4, .lookup([.inputName, .source(.v4)], set: "sourcenets4", negated: false), .counter, .accept),
      ChainRule(.lookup([.inputName], set: "workloads", negated: true), .counter, .drop),
    ]),
    "nat-in": Chain(hook: ChainHook(.prerouting, priority: -100, .nat), [
      ChainRule(v4, .translate(.destinationByMap([.destination(.v4)], map: "floating4", .v4))),
      ChainRule(v6, .translate(.destinationByMap([.destination(.v6)], map: "floating6", .v6))),
      ChainRule(v4, .address(.destination(.v4), in: prefix("169.254.169.254/32")), .transport(6), .port(.destinationPort, in: 80...80),
        .counter, .translate(.destination(IPAddress("127.0.0.1")!, port: 8775))),
      ChainRule(v6, .counter, .translate(.destination(IPAddress("fd00::7")!, port: nil))),
    ]),
    "nat-out": Chain(hook: ChainHook(.postrouting, priority: 110, .nat), [
      ChainRule(v4, .translate(.sourceByMap([.source(.v4), .destination(.v4)], map: "hairpin4", .v4))),
      ChainRule(v4, .lookup([.source(.v4)], set: "nets4", negated: false), .transport(6), .counter,
        .translate(.masquerade(ports: 1000...2000))),
      ChainRule(v4, .counter, .translate(.masquerade(ports: nil))),
      ChainRule(v4, .transport(17), .counter, .translate(.source(IPAddress("192.0.2.7")!, ports: 1000...2000))),
      ChainRule(v6, .counter, .translate(.source(IPAddress("fd00::7")!, ports: nil))),
    ]),
    "quality": Chain(hook: ChainHook(.postrouting, priority: -150), [
      ChainRule(v4, .counter, .setDSCP(.v4, 46)), ChainRule(v6, .counter, .setDSCP(.v6, 46)),
      ChainRule(.limit(RateLimit(packets: 100, perSeconds: 1, burst: 7, isOver: true)), .counter, .drop),
    ]),
    "refuse": Chain(hook: ChainHook(.forward, priority: 10), [
      ChainRule(.transport(6), .connectionsAbove(5), .counter, .reject(.tcpReset)), ChainRule(.counter, .reject(.prohibited)),
    ]),
    "raw": Chain(hook: ChainHook(.output, priority: -300), [ChainRule(.transport(17), .counter, .notrack, .accept)]),
    "translated": Chain(hook: ChainHook(.postrouting, priority: -150), [
      ChainRule(.connectionStatus(.destinationNAT), .match(.inputIndex, .equal, KeyOctets.host32(0)), .counter, .accept)
    ]),
    "related": Chain([
      ChainRule(v4, .lookup([.inputName, .connectionEnd(isReply: false, .v4)], set: "sourcenets4", negated: false), .counter, .accept),
      ChainRule(.family(.v6), .match(.inputType, .equal, ArpHardware.ether),
        .lookup([.inputName, .etherSource, .connectionEnd(isReply: true, .v6)], set: "source6", negated: false), .counter, .accept),
    ]),
  ]
  return delta
}

@Suite("nft prints what we program", .enabled(if: KernelSandbox.isAvailable))
struct ListingTests {
  @Test("Every match, set and verdict is printed by nft in its own words")
  func listing() throws {
    let sandbox = KernelSandbox()
    let host = try sandbox.namespace("nft")
    let driver = try RulesetDriver(namespace: host.descriptor.borrowed)
    let report = try driver.apply(sample())
    #expect(report.failures == [])
    let listing = try sandbox.run(host, "nft", ["list", "ruleset"])
    for line in [
      "iifname \"cali*\" oifname != \"cali1\" counter packets 0 bytes 0 drop",
      "ct state established,related counter packets 0 bytes 0 accept",
      "iifname vmap @verdicts", "meta l4proto udp counter packets 0 bytes 0 notrack accept",
      "ct status dnat iif 0 counter packets 0 bytes 0 accept",
      "meta nfproto ipv4 tcp dport 80 counter packets 0 bytes 0 jump target comment \"one port\"",
      "meta nfproto ipv4 udp sport != 53-60 counter packets 0 bytes 0 return",
      "ip saddr @hosts4 counter packets 0 bytes 0 accept comment \"a set\"",
      "ip saddr 10.0.0.0/22 ip daddr != 10.1.0.1 drop",
      "ip6 saddr fd00::/63 counter packets 0 bytes 0 drop",
      "ip daddr . meta l4proto . th dport @served4 counter packets 0 bytes 0 accept",
      "icmpv6 type @nd counter packets 0 bytes 0 accept",
      "meta l4proto != sctp meta mark set meta mark | 0x00010000 return",
      "meta mark & 0x00020000 == 0x00020000 meta mark set meta mark & 0xfffcffff log prefix \"calico-packet: \" level notice",
      "limit rate 10/second log prefix \"limited \" level notice counter packets 0 bytes 0 drop",
      "iifname . ether saddr . ip6 saddr @source6 counter packets 0 bytes 0 accept",
      "meta nfproto ipv4 iifname . ct original ip saddr @sourcenets4 counter packets 0 bytes 0 accept",
      "iifname . ether saddr . ct reply ip6 saddr @source6 counter packets 0 bytes 0 accept",
      "type nat hook prerouting priority dstnat; policy accept;",
      "dnat ip to ip daddr map @floating4",
      "dnat ip6 to ip6 daddr map @floating6",
      "ip daddr 169.254.169.254 tcp dport 80 counter packets 0 bytes 0 dnat ip to 127.0.0.1:8775",
      "meta nfproto ipv6 counter packets 0 bytes 0 dnat ip6 to fd00::7",
      "snat ip to ip saddr . ip daddr map @hairpin4",
      "ip saddr @nets4 meta l4proto tcp counter packets 0 bytes 0 masquerade to :1000-2000",
      "meta nfproto ipv4 counter packets 0 bytes 0 masquerade",
      "meta nfproto ipv4 meta l4proto udp counter packets 0 bytes 0 snat ip to 192.0.2.7:1000-2000",
      "meta nfproto ipv6 counter packets 0 bytes 0 snat ip6 to fd00::7",
      "meta nfproto ipv4 counter packets 0 bytes 0 ip dscp set ef",
      "meta nfproto ipv6 counter packets 0 bytes 0 ip6 dscp set ef",
      "limit rate over 100/second burst 7 packets counter packets 0 bytes 0 drop",
      "meta l4proto tcp ct count over 5 counter packets 0 bytes 0 reject with tcp reset",
      "counter packets 0 bytes 0 reject with icmpx admin-prohibited",
      "elements = { 192.0.2.9 : 10.0.0.1 }",
      "elements = { 10.0.0.1 . 10.0.0.1 : 192.0.2.9 }",
      "counter packets 0 bytes 0 accept comment \"NetworkPolicy default/allow-web ingress rule 1\"",
      "elements = { \"cali1\" . 02:00:00:00:00:01 . fd00::1 }",
      "elements = { \"cali1\" . 10.2.0.0/16 }",
      "elements = { 10.0.0.1 . tcp . 80 }",
      "elements = { \"cali1\" : goto target }",
      "elements = { \"cali1\" : 0x00010000 }",
      "elements = { 80, 8000-8999 }",
      "comment \"app == 'web'\"",
      "comment \"where it leads\"",
    ] { #expect(listing.contains(line), "\(line)\n\(listing)") }
    #expect(try driver.resync().mutations == 0)
  }

  @Test("A long comment is cut at a character, and quotes do not break the listing")
  func comments() throws {
    let sandbox = KernelSandbox()
    let host = try sandbox.namespace("nft")
    let driver = try RulesetDriver(namespace: host.descriptor.borrowed)
    var delta = RulesetDelta()
    let long = String(repeating: "ä", count: 100)
    delta.chains["a"] = Chain([ChainRule(.drop, comment: long), ChainRule(.drop, comment: "say \"hello\"\n")])
    try driver.apply(delta)
    let listing = try sandbox.run(host, "nft", ["list", "ruleset"])
    #expect(listing.contains("comment \"" + String(repeating: "ä", count: 63) + "\""))
    #expect(listing.contains("comment \"say 'hello' \""))
    #expect(try driver.resync().mutations == 0)
  }
}
