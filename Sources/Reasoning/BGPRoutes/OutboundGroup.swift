/// The Adj-RIB-Out of all peers that are told the same. A group keeps, for each entry, which attributes it announced and from which
/// source; the source itself is the one member that must not hear its own route, and the packing below makes that cheap: what
/// one source must not hear stands together in the stream, and its delivery leaves that range out.

import Addresses
import BGPMessages

struct OutboundGroup: Sendable {
  /// What was announced for one entry.
  struct Announced: Sendable, Equatable {
    /// -1: nothing.
    var attributes: AttributeID = -1
    var source = PeerID.local
  }

  let configuration: ExportConfiguration
  /// Peers that have been told everything up to the last flush.
  var members: [PeerID] = []
  /// Peers that get the whole table at the next flush: new ones, and members that asked for a refresh.
  var joining: [PeerID] = []
  var announced: [Announced] = []
  var isFresh = true
  /// Exported attributes by source attributes, source and family, for one flush. -1: not announced.
  var cache: [UInt64: AttributeID] = [:]

  init(_ configuration: ExportConfiguration) { self.configuration = configuration }
  var isEmpty: Bool { members.isEmpty && joining.isEmpty }
}

/// Changes for one group on their way into a stream.
struct PendingUpdates: Sendable {
  struct Announcement: Sendable {
    var source: PeerID
    var attributes: AttributeID
    var prefix: NLRI
  }
  struct Withdrawal: Sendable {
    /// The peer that never heard the route, since it came from there.
    var source: PeerID
    var prefix: NLRI
  }
  var announcements: [Announcement] = []
  var withdrawals: [Withdrawal] = []
  /// For a peer that has become the source of what it was told before.
  var ownWithdrawals: [(peer: PeerID, prefix: NLRI)] = []

  var isEmpty: Bool { announcements.isEmpty && withdrawals.isEmpty && ownWithdrawals.isEmpty }

  mutating func change(_ prefix: NLRI, from old: OutboundGroup.Announced, to new: OutboundGroup.Announced) {
    if new.attributes < 0 {
      withdrawals.append(Withdrawal(source: old.source, prefix: prefix))
    } else {
      announcements.append(Announcement(source: new.source, attributes: new.attributes, prefix: prefix))
      if old.attributes >= 0, old.source != new.source, new.source != .local { ownWithdrawals.append((new.source, prefix)) }
    }
  }

  /// Packs everything into messages: sources in order, withdrawals before announcements, prefixes of one attribute set together.
  mutating func stream(to recipients: [PeerID], encoding: EncodeOptions, attributes: AttributeArena) -> RoutingTable.UpdateStream? {
    guard !isEmpty, !recipients.isEmpty else { return nil }
    var octets: [UInt8] = []
    var scratch: [NLRI] = []
    announcements.sort { ($0.source, $0.attributes, $0.prefix.family) < ($1.source, $1.attributes, $1.prefix.family) }
    withdrawals.sort { ($0.source, $0.prefix.family) < ($1.source, $1.prefix.family) }
    var ranges: [PeerID: Range<Int>] = [:]
    var next = 0
    var gone = 0
    while next < announcements.count || gone < withdrawals.count {
      let source = min(
        next < announcements.count ? announcements[next].source : PeerID(rawValue: .max),
        gone < withdrawals.count ? withdrawals[gone].source : PeerID(rawValue: .max))
      let start = octets.count
      while gone < withdrawals.count, withdrawals[gone].source == source {
        let family = withdrawals[gone].prefix.family
        scratch.removeAll(keepingCapacity: true)
        while gone < withdrawals.count, withdrawals[gone].source == source, withdrawals[gone].prefix.family == family {
          scratch.append(withdrawals[gone].prefix)
          gone += 1
        }
        UpdateEncoder.withdraw(scratch, family: AddressFamily(unicast: family), options: encoding, into: &octets)
      }
      while next < announcements.count, announcements[next].source == source {
        let (id, family) = (announcements[next].attributes, announcements[next].prefix.family)
        scratch.removeAll(keepingCapacity: true)
        while next < announcements.count, announcements[next].source == source, announcements[next].attributes == id,
          announcements[next].prefix.family == family
        {
          scratch.append(announcements[next].prefix)
          next += 1
        }
        let encoded = EncodedAttributes(attributes[id], family: AddressFamily(unicast: family), options: encoding)
        if !UpdateEncoder.announce(scratch, with: encoded, into: &octets) {
          // RFC 4271, section 9.2: a route whose attributes do not fit cannot be told; an older one must not stay in its place.
          UpdateEncoder.withdraw(scratch, family: AddressFamily(unicast: family), options: encoding, into: &octets)
        }
      }
      if source != .local { ranges[source] = start..<octets.count }
    }
    let shared = octets.count
    ownWithdrawals.sort { ($0.peer, $0.prefix.family) < ($1.peer, $1.prefix.family) }
    var own: [PeerID: Range<Int>] = [:]
    var index = 0
    while index < ownWithdrawals.count {
      let peer = ownWithdrawals[index].peer
      let start = octets.count
      while index < ownWithdrawals.count, ownWithdrawals[index].peer == peer {
        let family = ownWithdrawals[index].prefix.family
        scratch.removeAll(keepingCapacity: true)
        while index < ownWithdrawals.count, ownWithdrawals[index].peer == peer, ownWithdrawals[index].prefix.family == family {
          scratch.append(ownWithdrawals[index].prefix)
          index += 1
        }
        UpdateEncoder.withdraw(scratch, family: AddressFamily(unicast: family), options: encoding, into: &octets)
      }
      own[peer] = start..<octets.count
    }

    var deliveries: [RoutingTable.UpdateStream.Delivery] = []
    deliveries.reserveCapacity(recipients.count)
    for peer in recipients {
      var parts: [Range<Int>] = []
      if let left = ranges[peer] {
        if left.lowerBound > 0 { parts.append(0..<left.lowerBound) }
        if left.upperBound < shared { parts.append(left.upperBound..<shared) }
      } else if shared > 0 {
        parts.append(0..<shared)
      }
      if let own = own[peer] { parts.append(own) }
      if !parts.isEmpty { deliveries.append(.init(peer: peer, ranges: parts)) }
    }
    return deliveries.isEmpty ? nil : RoutingTable.UpdateStream(octets: octets, deliveries: deliveries)
  }
}

extension RoutingTable {
  /// Brings a group up to date with the entries just decided, and its joining peers up to date with the group.
  mutating func advertise(_ dirty: [Int32], to number: Int, into outputs: inout [Output]) {
    // Taken out, so that it can change while the tables are read, without a copy.
    var group = OutboundGroup(groups[number].configuration)
    swap(&group, &groups[number])
    defer { swap(&group, &groups[number]) }
    let configuration = group.configuration
    if group.announced.count < entries.count {
      group.announced.append(contentsOf: repeatElement(OutboundGroup.Announced(), count: entries.count - group.announced.count))
    }
    var pending = PendingUpdates()
    if group.isFresh {
      group.isFresh = false
      for entry in entries.indices where !entries[entry].isFree { _ = update(Int32(entry), in: &group) }
    } else {
      for entry in dirty {
        if let (old, new) = update(entry, in: &group), !group.members.isEmpty {
          pending.change(entries[Int(entry)].prefix, from: old, to: new)
        }
      }
    }
    if let stream = pending.stream(to: group.members, encoding: configuration.encoding, attributes: arena) {
      outputs.append(.updates(stream))
    }
    if !group.joining.isEmpty {
      var everything = PendingUpdates()
      for (entry, announced) in group.announced.enumerated() where announced.attributes >= 0 {
        everything.announcements.append(
          .init(source: announced.source, attributes: announced.attributes, prefix: entries[entry].prefix))
      }
      if let stream = everything.stream(to: group.joining, encoding: configuration.encoding, attributes: arena) {
        outputs.append(.updates(stream))
      }
      for peer in group.joining where !group.members.contains(peer) { group.members.append(peer) }
      group.joining = []
    }
    group.cache.removeAll(keepingCapacity: true)
  }

  /// What the group announces for the entry now, if that differs from before.
  private mutating func update(
    _ entry: Int32, in group: inout OutboundGroup
  ) -> (old: OutboundGroup.Announced, new: OutboundGroup.Announced)? {
    let old = group.announced[Int(entry)]
    let new = wanted(entry, in: &group)
    guard old != new else { return nil }
    if new.attributes >= 0 { arena.retain(new.attributes) } else { entries[Int(entry)].advertised -= 1 }
    if old.attributes >= 0 { arena.release(old.attributes) } else { entries[Int(entry)].advertised += 1 }
    group.announced[Int(entry)] = new
    return (old, new)
  }

  private mutating func wanted(_ entry: Int32, in group: inout OutboundGroup) -> OutboundGroup.Announced {
    let best = entries[Int(entry)].best
    let prefix = entries[Int(entry)].prefix
    let configuration = group.configuration
    guard best >= 0, configuration.families.contains(prefix.family) else { return OutboundGroup.Announced() }
    let path = paths[Int(best)]
    // A metric below the normal one is that of a workload on its way here: its old host still announces the address.
    let normal = policies[configuration.policy]?.normalMetrics[prefix.family] ?? Self.normalMetric
    let isCovered = path.peer == .local && arena.summaries[Int(path.attributes)].localPreference <= Self.localPreference(ofMetric: normal)
    guard policies[configuration.policy]?.accepts(prefix.prefix, isCovered: isCovered) ?? true else { return OutboundGroup.Announced() }
    let key = UInt64(UInt32(bitPattern: path.attributes)) << 32 | UInt64(UInt32(bitPattern: path.peer.rawValue)) << 1 & 0xffff_fffe
      | (prefix.family == .v4 ? 0 : 1)
    let exported: AttributeID
    if let known = group.cache[key] {
      exported = known
    } else {
      let source = path.peer == .local ? nil : peers[path.peer]?.peer
      let attributes = arena[path.attributes].exported(
        from: source, to: configuration, family: prefix.family, routerID: routerID, clusterID: clusterID)
      exported = attributes.map { arena.intern($0, &nextHops) } ?? -1
      group.cache[key] = exported
    }
    return exported < 0 ? OutboundGroup.Announced() : OutboundGroup.Announced(attributes: exported, source: path.peer)
  }

  /// A peer's session ended. The last one out takes the Adj-RIB-Out with it.
  mutating func leave(_ number: Int, _ peer: PeerID) {
    groups[number].members.removeAll { $0 == peer }
    groups[number].joining.removeAll { $0 == peer }
    guard groups[number].isEmpty else { return }
    for (entry, announced) in groups[number].announced.enumerated() where announced.attributes >= 0 {
      arena.release(announced.attributes)
      entries[entry].advertised -= 1
      if entries[entry].paths < 0 { mark(Int32(entry)) }
    }
    groups[number].announced = []
    groups[number].isFresh = true
  }

  /// End-of-RIB for every peer that has its table and was not told yet that this is all (RFC 4724, section 2).
  mutating func endOfRIBMarkers() -> UpdateStream? {
    var stream = UpdateStream(octets: [], deliveries: [])
    UpdateEncoder.endOfRIB(.ipv4Unicast, into: &stream.octets)
    let middle = stream.octets.count
    UpdateEncoder.endOfRIB(.ipv6Unicast, into: &stream.octets)
    for id in peers.keys.sorted() where peers[id]!.isUp && !peers[id]!.owesEndOfRIB.isEmpty {
      let parts = peers[id]!.owesEndOfRIB.sorted().map { $0 == .v4 ? 0..<middle : middle..<stream.octets.count }
      stream.deliveries.append(.init(peer: id, ranges: parts))
      peers[id]!.owesEndOfRIB = []
    }
    return stream.deliveries.isEmpty ? nil : stream
  }
}
