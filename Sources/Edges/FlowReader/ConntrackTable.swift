/// The connections that the kernel tracks, as policy saw their first packets; and their end.
///
/// linux/netfilter/nfnetlink_conntrack.h. A deletion names the entry by its original direction, zone and id, so that a newer connection of
/// the same ends is never meant.
public import Addresses
import Glibc
public import HostPlans
public import NetlinkEdge
import NetlinkMessages
import Octets
import Resources

public struct TrackedFlow: Hashable, Sendable {
  /// From who began it to where translation led it.
  public var flow: Flow
  /// Begun on behalf of another connection, by a helper: policy was not asked.
  public var isExpected = false
  /// In both directions, where the kernel counts them (nf_conntrack_acct).
  public var packets: UInt64 = 0
  public var octets: UInt64 = 0
  /// Names this connection among all that there have been.
  public var identity: [UInt8] { original + (zone ?? []) + (id ?? []) }
  fileprivate var original: [UInt8] = []
  fileprivate var zone: [UInt8]?
  fileprivate var id: [UInt8]?
}

/// One socket, one owner at a time.
public final class ConntrackTable {
  private enum Number {
    static let get: UInt16 = 1 << 8 | 1
    static let delete: UInt16 = 1 << 8 | 2
    static let original: UInt16 = 1
    static let reply: UInt16 = 2
    static let status: UInt16 = 3
    static let originalCounters: UInt16 = 9
    static let replyCounters: UInt16 = 10
    static let id: UInt16 = 12
    static let zone: UInt16 = 18
    static let expected: UInt32 = 1
  }
  private struct Tuple {
    var source: IPAddress?
    var destination: IPAddress?
    var number: UInt8 = 0
    var sourcePort: UInt16?
    var destinationPort: UInt16?
    var icmpType: UInt8?
    var icmpCode: UInt8?
  }
  private let socket: NetlinkSocket

  /// The connection tracking of one namespace; nil is that of the calling thread.
  public init(namespace: CInt? = nil) throws(NetlinkError) {
    socket = try NetlinkSocket(.netfilter, namespace: namespace, bufferOctets: 1 << 20)
  }

  /// Those that `isWanted`, of all: what is not wanted is not kept while the walk goes on.
  public func flows(where isWanted: (TrackedFlow) -> Bool) throws(NetlinkError) -> [TrackedFlow] {
    do throws(NetlinkError) {
      return try socket.dump(
        type: Number.get, what: "read conntrack entries", body: { $0.zeros(4) },
        decode: { _, body throws(WireError) -> TrackedFlow? in
          guard let tracked = try Self.read(&body), isWanted(tracked) else { return nil }
          return tracked
        })
    } catch {
      // No connection tracking in this kernel.
      if error.code == EINVAL || error.code == EOPNOTSUPP { return [] }
      throw error
    }
  }

  /// How many were there to be ended.
  @discardableResult
  public func end(_ flows: [TrackedFlow]) throws(NetlinkError) -> Int {
    var ended = 0
    for start in stride(from: 0, to: flows.count, by: 256) {
      var batch = NetlinkBatch()
      for tracked in flows[start..<min(start + 256, flows.count)] {
        batch.add(type: Number.delete, flags: .acknowledge) { writer in
          writer.u8(tracked.flow.family == .v4 ? 2 : 10)
          writer.zeros(3)
          writer.nest(Number.original) { $0.append(tracked.original) }
          if let zone = tracked.zone { writer.attribute(Number.zone, zone) }
          if let id = tracked.id { writer.attribute(Number.id, id) }
        }
      }
      for error in try socket.request(&batch, what: "end conntrack entries") {
        if let error, !error.isNotFound { throw error }
        if error == nil { ended += 1 }
      }
    }
    return ended
  }

  private static func read(_ body: inout OctetReader) throws(WireError) -> TrackedFlow? {
    try body.skip(4)
    var (original, reply) = (Tuple(), Tuple())
    var (octets, zone, id): ([UInt8], [UInt8]?, [UInt8]?) = ([], nil, nil)
    var status: UInt32 = 0
    var (packets, bytes): (UInt64, UInt64) = (0, 0)
    try body.attributes { type, value throws(WireError) in
      switch type {
      case Number.original:
        octets = value.rest()
        original = try tuple(octets)
      case Number.reply: reply = try tuple(value.rest())
      case Number.status: status = try value.u32()
      case Number.originalCounters, Number.replyCounters:
        try value.attributes { type, value throws(WireError) in
          switch type {
          case 1: packets &+= try value.u64()
          case 2: bytes &+= try value.u64()
          default: break
          }
        }
      case Number.id: id = value.rest()
      case Number.zone: zone = value.rest()
      default: break
      }
    }
    guard let source = original.source, let destination = reply.source, original.number > 0 else { return nil }
    var flow = Flow(source, destination, NetworkProtocol(number: original.number))
    (flow.sourcePort, flow.destinationPort) = (original.sourcePort, reply.sourcePort)
    (flow.icmpType, flow.icmpCode) = (original.icmpType, original.icmpCode)
    return TrackedFlow(
      flow: flow, isExpected: status & Number.expected != 0, packets: packets, octets: bytes, original: octets, zone: zone, id: id)
  }

  /// CTA_TUPLE_IP and CTA_TUPLE_PROTO.
  private static func tuple(_ octets: [UInt8]) throws(WireError) -> Tuple {
    var tuple = Tuple()
    var reader = OctetReader(octets.span)
    try reader.attributes { type, value throws(WireError) in
      switch type {
      case 1:
        try value.attributes { type, value throws(WireError) in
          switch type {
          case 1, 3: tuple.source = IPAddress(octets: value.rest())
          case 2, 4: tuple.destination = IPAddress(octets: value.rest())
          default: break
          }
        }
      case 2:
        try value.attributes { type, value throws(WireError) in
          switch type {
          case 1: tuple.number = try value.u8()
          case 2: tuple.sourcePort = try value.u16()
          case 3: tuple.destinationPort = try value.u16()
          case 5, 8: tuple.icmpType = try value.u8()
          case 6, 9: tuple.icmpCode = try value.u8()
          default: break
          }
        }
      default: break
      }
    }
    return tuple
  }
}
