/// What the kernel tells of packets that our rules dropped (nfnetlink_log).
///
/// Hazards and the answers:
/// - Anybody can make a host drop packets. Above a budget for each tenth of a second the groups are left until the next one: the kernel then
///   makes no message at all, and the rules' counters still count every packet.
/// - Messages may be lost before they are read (ENOBUFS, or the kernel's own queue): each group numbers its messages, gaps are counted.
/// - Another process may have the groups already: then it has them, and the reader says so.
/// - A kernel without nfnetlink_log refuses rules that name a group, and with them the whole table: `isAvailable` is asked first.
import Glibc
public import HostPlans
public import NetlinkEdge
import NetlinkMessages
import Octets
import Resources
import Sockets

public struct DroppedPacket: Hashable, Sendable {
  /// As the rule has it.
  public var prefix: String
  public var flow: Flow
  /// Of the packet.
  public var octets: Int
}

public final class DropReader {
  public struct Counts: Hashable, Sendable {
    public var packets = 0
    /// Messages that were made and not read.
    public var lost = 0
    /// How often there was more than the budget.
    public var overruns = 0
    public init() {}
  }
  /// linux/netfilter/nfnetlink_log.h
  private enum Number {
    static let packet: UInt16 = 4 << 8
    static let config: UInt16 = 4 << 8 | 1
    static let command: UInt16 = 1
    static let mode: UInt16 = 2
    static let timeout: UInt16 = 4
    static let threshold: UInt16 = 5
    static let flags: UInt16 = 6
    static let payload: UInt16 = 9
    static let prefix: UInt16 = 10
    static let sequence: UInt16 = 12
    static let bind: UInt8 = 1
    static let unbind: UInt8 = 2
  }

  private let socket: NetlinkSocket
  private let groups: [UInt16]
  /// Packets for each tenth of a second.
  public let budget: Int
  public private(set) var counts = Counts()
  private var taken = 0
  public private(set) var isListening = false
  private var nextSequence: [UInt16: UInt32] = [:]

  /// Opens the groups. `namespace` is a descriptor of a network namespace; nil is that of the calling thread.
  public init(groups: [UInt16], budget: Int = 500, namespace: CInt? = nil) throws(NetlinkError) {
    socket = try NetlinkSocket(.netfilter, namespace: namespace, bufferOctets: 1 << 20)
    self.groups = groups
    self.budget = budget
    try listen()
  }

  /// Whether this kernel has nfnetlink_log, and a rule may name a group.
  public static func isAvailable(namespace: CInt? = nil) -> Bool {
    guard let socket = try? NetlinkSocket(.netfilter, namespace: namespace, bufferOctets: 1 << 16) else { return false }
    // A group that nobody uses: bound, it goes with the socket.
    do throws(NetlinkError) { try command(Number.bind, 61_742, socket) } catch { return error.code != EINVAL && error.code != EOPNOTSUPP }
    return true
  }

  public var descriptor: CInt { socket.descriptor.borrowed }

  private static func header(_ group: UInt16, _ writer: inout OctetWriter) {
    writer.u8(0)
    writer.u8(0)
    writer.u16(group)
  }
  private static func command(_ number: UInt8, _ group: UInt16, _ socket: NetlinkSocket) throws(NetlinkError) {
    try socket.request(type: Number.config, what: "listen to nfnetlink_log group \(group)") { writer in
      header(group, &writer)
      writer.attribute(Number.command, [number])
    }
  }

  private func listen() throws(NetlinkError) {
    for group in groups {
      try Self.command(Number.bind, group, socket)
      try socket.request(type: Number.config, what: "set up nfnetlink_log group \(group)") { writer in
        Self.header(group, &writer)
        // The first 128 octets of each packet: addresses and ports, behind extension headers too.
        writer.attribute(Number.mode, [0, 0, 0, 128, 2, 0])
        // Up to 32 packets make one message, which waits 20 ms at most.
        writer.attribute(Number.threshold, u32: 32)
        writer.attribute(Number.timeout, u32: 2)
        writer.attribute(Number.flags, [0, 1])
      }
      nextSequence[group] = nil
    }
    isListening = true
  }

  /// Begins the next tenth of a second. Call it then whenever `receive` has taken something.
  public func renew() throws(NetlinkError) {
    taken = 0
    if !isListening { try listen() }
  }

  /// Takes what waits; call when the descriptor is readable.
  public func receive(_ handler: (DroppedPacket) -> Void) {
    let reception = socket.receive { header, body in
      guard header.type == Number.packet else { return }
      taken += 1
      guard let packet = try? packet(&body) else { return }
      counts.packets += 1
      handler(packet)
    }
    if reception == .overrun { counts.lost += 1 }
    guard taken > budget, isListening else { return }
    counts.overruns += 1
    isListening = false
    // Sent while messages wait: what is read on the way to the answers is lost, and the gap in the numbers is not seen.
    for group in groups { try? Self.command(Number.unbind, group, socket) }
  }

  private func packet(_ body: inout OctetReader) throws(WireError) -> DroppedPacket? {
    try body.skip(2)
    let group = try body.u16()
    var prefix = ""
    var octets: [UInt8] = []
    var sequence: UInt32?
    try body.attributes { type, value throws(WireError) in
      switch type {
      case Number.prefix: prefix = try value.text()
      case Number.payload: octets = value.rest()
      case Number.sequence: sequence = try value.u32()
      default: break
      }
    }
    if let sequence {
      if let expected = nextSequence[group], sequence > expected { counts.lost += Int(sequence - expected) }
      nextSequence[group] = sequence &+ 1
    }
    guard let (flow, length) = Flow.reading(octets) else { return nil }
    return DroppedPacket(prefix: prefix, flow: flow, octets: length)
  }
}
