/// Forgets the flows of addresses that leave this host, so that whoever gets an address next inherits none: established traffic is
/// accepted before policy is asked.
///
/// The cost is the walk: to find the flows of one address the kernel looks at every bucket of the table, which all namespaces share
/// (262,144 buckets: 10 ms of CPU). Hence: no walk when the namespace tracks nothing, one walk for both families while its flows are few,
/// and one walk for all addresses that came while the walk before was under way.

public import Addresses
import Glibc
public import NetlinkEdge
import NetlinkMessages
import Octets
import Sockets
import Synchronization

/// Shares walks among those who wait.
public final class FlowMemory: Sendable {
  private struct State {
    var pending: [IPAddress] = []
    var waiting: [CheckedContinuation<Void, any Error>] = []
    var isWalking = false
  }
  private let state = Mutex(State())
  private let namespace: NetworkNamespace?

  /// The connection tracking of one namespace; nil is the process's.
  public init(namespace: NetworkNamespace?) { self.namespace = namespace }

  /// Returns when no flow of `addresses` is remembered. Call when no packet of theirs can pass any more.
  public func forget(_ addresses: [IPAddress]) async throws {
    guard !addresses.isEmpty else { return }
    try await withCheckedThrowingContinuation { continuation in
      let starts = state.withLock { state in
        state.pending += addresses
        state.waiting.append(continuation)
        defer { state.isWalking = true }
        return !state.isWalking
      }
      if starts { Task { await walk() } }
    }
  }

  /// The same for addresses that have moved to another host, but for their flows with `local` ones: those still pass here. The others would
  /// be out of date when the address comes back, and connection tracking would take what goes on in them for invalid.
  public func forget(movedAway addresses: [IPAddress], butFlowsWith local: Set<IPAddress>) async throws {
    try await onThread { [namespace] in _ = try ConntrackFlush(namespace: namespace).forget(addresses, butFlowsWith: local) }
  }

  private func walk() async {
    while true {
      let (addresses, waiting) = state.withLock { state in
        let taken = (state.pending, state.waiting)
        (state.pending, state.waiting) = ([], [])
        if taken.1.isEmpty { state.isWalking = false }
        return taken
      }
      if waiting.isEmpty { return }
      let result: Result<Void, any Error>
      do {
        try await onThread { [namespace] in _ = try ConntrackFlush(namespace: namespace).forget(addresses) }
        result = .success(())
      } catch {
        result = .failure(error)
      }
      for continuation in waiting { continuation.resume(with: result) }
    }
  }
}

struct ConntrackFlush {
  let socket: NetlinkSocket

  /// The connection tracking of one namespace; nil is the process's.
  init(namespace: NetworkNamespace?) throws(NetlinkError) {
    socket = try NetlinkSocket(.netfilter, namespace: namespace?.descriptor.borrowed, bufferOctets: 1 << 20)
  }

  /// linux/netfilter/nfnetlink_conntrack.h
  private enum Number {
    static let get: UInt16 = 1 << 8 | 1
    static let delete: UInt16 = 1 << 8 | 2
    static let statistics: UInt16 = 1 << 8 | 5
    static let entries: UInt16 = 1
    static let original: UInt16 = 1
    static let reply: UInt16 = 2
    static let id: UInt16 = 12
    static let zone: UInt16 = 18
    static let filter: UInt16 = 25
    static let tupleAddresses: UInt16 = 1
    static func source(_ family: IPFamily) -> UInt16 { family == .v4 ? 1 : 3 }
    static func destination(_ family: IPFamily) -> UInt16 { family == .v4 ? 2 : 4 }
  }
  /// What the kernel compares with the one address that is wanted.
  private struct Filter {
    var tuple: UInt16
    /// CTA_FILTER_F_CTA_IP_SRC or CTA_FILTER_F_CTA_IP_DST.
    var flag: UInt32
    static let all = [Filter(tuple: Number.original, flag: 1), Filter(tuple: Number.reply, flag: 1), Filter(tuple: Number.original, flag: 2)]
  }

  private struct Entry: Hashable {
    let family: IPFamily
    /// The original direction's attributes, as the kernel wrote them: they name the entry.
    let original: [UInt8]
    let zone: [UInt8]?
    /// Protects a newer flow of the same tuple.
    let id: [UInt8]?
  }

  /// Up to so many flows, telling all of them costs less than a second walk.
  var fewFlows = 5_000

  /// Deletes every flow that `addresses` take part in, but for those with `kept` at the other end; returns how many.
  ///
  /// The address is the source of the original direction where it began the flow, and the source of the reply direction where it was the
  /// destination, also behind address translation; a floating address is the destination of the original direction alone. For IPv4 the kernel (from 5.8) filters, so that many flows cost little. For IPv6 its
  /// comparison is the wrong way round (ctnetlink_filter_match_tuple leaves out what is equal; seen on 6.18): never with a filter.
  @discardableResult
  func forget(_ addresses: [IPAddress], butFlowsWith kept: Set<IPAddress> = []) throws(NetlinkError) -> Int {
    var entries: Set<Entry> = []
    let flows = try count()
    if flows == 0 { return 0 }
    let kept = Set(kept.map(\.octets))
    let families = Dictionary(grouping: Set(addresses), by: \.family).mapValues { Set($0.map(\.octets)) }
    if let wanted = families[.v4], wanted.count == 1, flows.map({ $0 > fewFlows }) ?? true {
      for filter in Filter.all { entries.formUnion(try find(.v4, wanted, kept, filter: filter)) }
      if let wanted = families[.v6] { entries.formUnion(try find(.v6, wanted, kept, filter: nil)) }
    } else if families.count == 1, let (family, wanted) = families.first {
      entries.formUnion(try find(family, wanted, kept, filter: nil))
    } else {
      entries.formUnion(try find(nil, Set(families.values.joined()), kept, filter: nil))
    }
    guard !entries.isEmpty else { return 0 }
    var deleted = 0
    let list = Array(entries)
    for start in stride(from: 0, to: list.count, by: 256) {
      var batch = NetlinkBatch()
      for entry in list[start..<min(start + 256, list.count)] {
        batch.add(type: Number.delete, flags: .acknowledge) { writer in
          Self.header(entry.family, &writer)
          writer.nest(Number.original) { $0.append(entry.original) }
          if let zone = entry.zone { writer.attribute(Number.zone, zone) }
          if let id = entry.id { writer.attribute(Number.id, id) }
        }
      }
      for error in try socket.request(&batch, what: "delete conntrack entries") {
        if let error, !error.isNotFound { throw error }
        if error == nil { deleted += 1 }
      }
    }
    return deleted
  }

  /// How many flows this namespace tracks; nil when the kernel does not say.
  private func count() throws(NetlinkError) -> Int? {
    var batch = NetlinkBatch()
    batch.add(type: Number.statistics, flags: []) { Self.header(nil, &$0) }
    var count: Int?
    let result = try socket.request(&batch, what: "count conntrack entries") { _, body in
      try? body.skip(4)
      try? body.attributes { type, value throws(WireError) in
        if type == Number.entries { count = Int(try value.u32()) }
      }
    }
    return result[0] == nil ? count : nil
  }

  /// Entries of the family (nil: both) with one of `wanted` as a source or first destination and none of `kept`.
  private func find(
    _ family: IPFamily?, _ wanted: Set<[UInt8]>, _ kept: Set<[UInt8]>, filter: Filter?
  ) throws(NetlinkError) -> [Entry] {
    do throws(NetlinkError) {
      return try socket.dump(
        type: Number.get, what: "read conntrack entries",
        body: { writer in
          Self.header(family, &writer)
          guard let filter, let family, let address = wanted.first else { return }
          writer.nest(filter.tuple) { tuple in
            tuple.nest(Number.tupleAddresses) {
              $0.attribute(filter.flag == 1 ? Number.source(family) : Number.destination(family), address)
            }
          }
          // An older kernel does not know the filter and tells everything; the comparison below holds for both.
          writer.nest(Number.filter) { $0.attribute(filter.tuple == Number.original ? 1 : 2, hostU32: filter.flag) }
        }
      ) { header, body throws(WireError) -> Entry? in
        let family: IPFamily = try body.u8() == 2 ? .v4 : .v6
        try body.skip(3)
        var original: [UInt8] = []
        var zone: [UInt8]?
        var id: [UInt8]?
        var (matches, isKept) = (false, false)
        try body.attributes { type, value throws(WireError) in
          switch type {
          case Number.original, Number.reply:
            let octets = value.rest()
            if type == Number.original { original = octets }
            let source = try Self.address(Number.source(family), in: octets)
            if wanted.contains(source) { matches = true }
            if type == Number.original, wanted.contains(try Self.address(Number.destination(family), in: octets)) { matches = true }
            if kept.contains(source) { isKept = true }
          case Number.zone: zone = value.rest()
          case Number.id: id = value.rest()
          default: break
          }
        }
        return matches && !isKept ? Entry(family: family, original: original, zone: zone, id: id) : nil
      }
    } catch {
      // No connection tracking in this kernel: nothing to forget.
      if error.code == EINVAL || error.code == EOPNOTSUPP { return [] }
      throw error
    }
  }

  private static func address(_ end: UInt16, in tuple: [UInt8]) throws(WireError) -> [UInt8] {
    var found: [UInt8] = []
    var reader = OctetReader(tuple.span)
    try reader.attributes { type, value throws(WireError) in
      guard type == Number.tupleAddresses else { return }
      try value.attributes { type, value throws(WireError) in
        if type == end { found = value.rest() }
      }
    }
    return found
  }

  /// nfgenmsg
  private static func header(_ family: IPFamily?, _ writer: inout OctetWriter) {
    writer.u8(family.map { $0 == .v4 ? 2 : 10 } ?? 0)
    writer.u8(0)
    writer.u16(0)
  }
}
