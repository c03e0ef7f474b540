import Addresses
import Testing

@Suite("Addresses and prefixes")
struct AddressTests {
  @Test("IPv4 text reads strictly and prints the same", arguments: ["0.0.0.0", "10.0.0.1", "255.255.255.255", "192.168.5.30"])
  func ipv4(text: String) { #expect(IPv4Address(text)?.description == text) }

  @Test(
    "Loose IPv4 text is refused (RFC 6943, section 3.1.1)",
    arguments: [
      "", "1", "1.2.3", "1.2.3.4.5", "1.2.3.", ".1.2.3", "1..2.3", "256.0.0.1", "01.2.3.4", "1.2.3.00", "1.2.3.4 ", "0x1.2.3.4", "1.2.3.-4",
      "+1.2.3.4", "١.2.3.4",
    ])
  func badIPv4(text: String) { #expect(IPv4Address(text) == nil) }

  @Test(
    "IPv6 text prints as RFC 5952 recommends",
    arguments: [
      ("::", "::"), ("::1", "::1"), ("1::", "1::"), ("2001:DB8::1", "2001:db8::1"),
      ("2001:0db8:0000:0000:0001:0000:0000:0001", "2001:db8::1:0:0:1"),
      ("2001:db8:0:1:1:1:1:1", "2001:db8:0:1:1:1:1:1"), ("2001:0:0:1:0:0:0:1", "2001:0:0:1::1"), ("1:2:3:4:5:6:7:8", "1:2:3:4:5:6:7:8"),
      ("0:0:0:0:0:0:0:0", "::"), ("::ffff:1.2.3.4", "::ffff:1.2.3.4"), ("::ffff:102:304", "::ffff:1.2.3.4"),
      ("64:ff9b::1.2.3.4", "64:ff9b::102:304"),
      ("fe80::ecee:eeff:feee:eeee", "fe80::ecee:eeff:feee:eeee"), ("1:2:3:4:5:6:7::", "1:2:3:4:5:6:7:0"),
      ("::2:3:4:5:6:7:8", "0:2:3:4:5:6:7:8"),
    ])
  func ipv6(text: String, canonical: String) throws {
    let address = try #require(IPv6Address(text))
    #expect(address.description == canonical)
    #expect(IPv6Address(canonical) == address)
    #expect(IPv6Address(octets: address.octets) == address)
  }

  @Test(
    "What is no IPv6 address is refused",
    arguments: [
      "", ":", ":::", "1", "1:2", "1:2:3:4:5:6:7", "1:2:3:4:5:6:7:8:9", "1::2::3", ":1:2:3:4:5:6:7:8", "1:2:3:4:5:6:7:8:",
      "1:2:3:4:5:6:7:8::", "::12345", "::g", "::-1",
      "::+1", "fe80::1%eth0", "1.2.3.4::", "::1.2.3", "::1.2.3.4:5", "1:2:3:4:5:6:7:1.2.3.4", "::ffff:1.2.3.256", " ::1", "::1/128",
      "[::1]",
    ])
  func badIPv6(text: String) { #expect(IPv6Address(text) == nil) }

  @Test(
    "Prefixes clear their host bits; interface addresses keep them",
    arguments: [
      ("10.1.2.3/8", "10.0.0.0/8", "10.1.2.3/8"), ("10.1.2.3", "10.1.2.3/32", "10.1.2.3/32"), ("1.2.3.4/0", "0.0.0.0/0", "1.2.3.4/0"),
      ("fd00::1/64", "fd00::/64", "fd00::1/64"), ("fd00::1", "fd00::1/128", "fd00::1/128"), ("ffff::1/0", "::/0", "ffff::1/0"),
      ("ffff:ffff:ffff:ffff:ffff::/65", "ffff:ffff:ffff:ffff:8000::/65", "ffff:ffff:ffff:ffff:ffff::/65"),
    ])
  func prefixes(text: String, prefix: String, interface: String) {
    #expect(IPPrefix(text)?.description == prefix)
    #expect(InterfaceAddress(text)?.description == interface)
    #expect(InterfaceAddress(text)?.isMasked == (prefix == interface))
  }

  @Test(
    "What is no prefix is refused",
    arguments: [
      "", "/", "10.0.0.0/", "10.0.0.0/33", "10.0.0.0/08", "10.0.0.0/+8", "10.0.0.0/8/8", "10/8", "::/129", "::/-1", "x/8", "::/0128",
    ])
  func badPrefixes(text: String) { #expect(IPPrefix(text) == nil && InterfaceAddress(text) == nil) }

  @Test("Containment agrees with the masked numbers, for every length")
  func containment() {
    let (a, b) = (IPv6Address(high: 0x2001_0db8_ffff_0000, low: 0xf0f0_0000_0000_0001), IPv4Address(203, 0, 113, 129))
    for length in UInt8(0)...128 {
      let prefix = IPv6Prefix(a, length: length)
      #expect(prefix.contains(a))
      if length > 0 {
        // The last bit inside the prefix, flipped, leaves it.
        let bit = length - 1
        let outside = IPv6Address(
          high: bit < 64 ? a.high ^ 1 << UInt64(63 - bit) : a.high, low: bit >= 64 ? a.low ^ 1 << UInt64(127 - bit) : a.low)
        #expect(!prefix.contains(outside))
        #expect(IPv6Prefix(a, length: length - 1).contains(IPv6Prefix(outside, length: length)))
      }
    }
    for length in UInt8(1)...32 {
      #expect(!IPv4Prefix(b, length: length).contains(IPv4Address(rawValue: b.rawValue ^ 1 << UInt32(32 - length))))
    }
    #expect(!IPPrefix("0.0.0.0/0")!.contains(IPAddress("::1")!) && !IPPrefix("::/0")!.overlaps(IPPrefix("0.0.0.0/0")!))
    #expect(IPPrefix("10.0.0.0/8")!.overlaps(IPPrefix("10.1.0.0/16")!) && IPPrefix("10.1.0.0/16")!.overlaps(IPPrefix("10.0.0.0/8")!))
  }

  @Test("Order: IPv4 before IPv6, then by address, then shorter first")
  func order() {
    let sorted = ["0.0.0.0/0", "10.0.0.0/8", "10.0.0.0/16", "10.1.0.0/16", "::/0", "fd00::/8", "fd00::/64"].map { IPPrefix($0)! }
    #expect(sorted.reversed().sorted() == sorted)
  }

  @Test(
    "Counting on stops at the end of the family",
    arguments: [
      ("10.0.0.255", 1, "10.0.1.0"), ("255.255.255.255", 1, nil), ("::ffff:ffff:ffff:ffff", 1, "0:0:0:1::"),
      ("ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff", 1, nil), ("0.0.0.0", 1 << 32, nil), ("0.0.0.0", 0xffff_ffff, "255.255.255.255"),
    ] as [(String, UInt64, String?)])
  func advancing(text: String, offset: UInt64, expected: String?) {
    #expect(IPAddress(text)?.advanced(by: offset)?.description == expected)
  }

  @Test(
    "Kinds of addresses",
    arguments: [
      ("169.254.1.1", "link"), ("fe80::1", "link"), ("febf::1", "link"), ("fec0::1", ""), ("127.0.0.1", "loop"), ("::1", "loop"),
      ("224.0.0.1", "multi"),
      ("239.255.255.255", "multi"), ("240.0.0.1", ""), ("ff02::1", "multi"), ("0.0.0.0", "none"), ("::", "none"), ("10.0.0.1", ""),
    ])
  func kinds(text: String, kind: String) throws {
    let address = try #require(IPAddress(text))
    #expect(
      [address.isLinkLocal, address.isLoopback, address.isMulticast, address.isUnspecified]
        == ["link", "loop", "multi", "none"].map { $0 == kind })
  }

  @Test("MAC addresses and their link-local addresses")
  func mac() {
    #expect(MACAddress("EE:ee:ee:ee:ee:ee") == .hostSide && MACAddress("02-00-5e-10-00-01")?.description == "02:00:5e:10:00:01")
    #expect(MACAddress.hostSide.linkLocal.description == "fe80::ecee:eeff:feee:eeee")
    #expect(MACAddress("00:00:00:00:00:00")?.linkLocal.description == "fe80::200:ff:fe00:0")
    for bad in ["", "ee:ee:ee:ee:ee", "ee:ee:ee:ee:ee:ee:ee", "ee-ee:ee:ee:ee:ee", "eg:ee:ee:ee:ee:ee", "e:ee:ee:ee:ee:eee"] {
      #expect(MACAddress(bad) == nil)
    }
  }
}
