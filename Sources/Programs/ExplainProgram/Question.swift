/// May A speak to B? What was asked, with everything that was left open filled in.
public import Addresses
public import PolicyOracle
public import Resources

public struct Question: Sendable {
  public var from: String
  public var to: String
  public var ipProtocol: NetworkProtocol?
  public var port: UInt16?
  public var sourcePort: UInt16?
  public var icmpType: UInt8?
  public var icmpCode: UInt8?
  /// Nil: every family in which both ends have an address.
  public var family: IPFamily?
  public init(from: String, to: String) {
    self.from = from
    self.to = to
  }

  /// A client's port where none is given.
  public static let ephemeralPort: UInt16 = 50_000

  /// One packet for each family. Without protocol and port the question is about a ping; with a port and no protocol about TCP.
  func packets(_ from: Place, _ to: Place) throws(QuestionProblem) -> [Packet] {
    let isPing = ipProtocol == nil && port == nil
    let ipProtocol = ipProtocol ?? (isPing ? .icmp : .tcp)
    let isICMP = ipProtocol == .icmp || ipProtocol == .icmpv6
    if ipProtocol.hasPorts, port == nil { throw QuestionProblem("a question about \(ipProtocol) needs a port; say --port") }
    if !ipProtocol.hasPorts, port != nil || sourcePort != nil { throw QuestionProblem("\(ipProtocol) has no ports; leave them out") }
    if !isICMP, icmpType != nil || icmpCode != nil { throw QuestionProblem("\(ipProtocol) has no ICMP types; leave them out") }
    if icmpCode != nil, icmpType == nil { throw QuestionProblem("an ICMP code needs a type; say --icmp-type") }

    // A type means something else in the other family; a ping is a ping in both.
    var families = family.map { [$0] } ?? IPFamily.allCases
    if ipProtocol == .icmpv6 { families = families.filter { $0 == .v6 } }
    if ipProtocol == .icmp, icmpType != nil, family == nil { families = [.v4] }
    guard !families.isEmpty else { throw QuestionProblem("\(ipProtocol) is a protocol of IPv6; leave --family out or write --family 6") }
    var packets: [Packet] = []
    for family in families {
      guard let source = from.addresses[family], let destination = to.addresses[family] else { continue }
      let inFamily: NetworkProtocol = isICMP ? (family == .v4 ? .icmp : .icmpv6) : ipProtocol
      packets.append(
        Packet(
          from: source, to: destination, protocol: inFamily,
          sourcePort: ipProtocol.hasPorts ? sourcePort ?? Self.ephemeralPort : nil, destinationPort: port,
          icmpType: isICMP ? icmpType ?? (family == .v4 ? 8 : 128) : nil, icmpCode: isICMP ? icmpCode ?? 0 : nil))
    }
    guard !packets.isEmpty else {
      let wanted = families.map(\.description).joined(separator: " or ")
      func has(_ place: Place) -> String {
        "\(place.name) has \(place.addresses.keys.sorted().map(\.description).joined(separator: " and "))"
      }
      throw QuestionProblem("there is no \(wanted) between the two: \(has(from)), \(has(to))")
    }
    return packets
  }
}
