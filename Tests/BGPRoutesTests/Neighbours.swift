/// Neighbours on the far side of the table: they decode what they are sent and remember it, as a real peer would.

import Addresses
import BGPMessages
import BGPRoutes

func prefix(_ text: String) -> IPPrefix { IPPrefix(text)! }
func address(_ text: String) -> IPAddress { IPAddress(text)! }
func routerID(_ text: String) -> RouterID { RouterID(text)! }

func peer(
  _ number: Int, as asNumber: UInt32 = 64512, localAS: UInt32 = 64512, client: Bool = false, families: Set<IPFamily> = [.v4],
  id: String? = nil, change: (inout ExportConfiguration) -> Void = { _ in }
) -> RoutePeer {
  var export = ExportConfiguration(
    isExternal: asNumber != localAS, localAS: ASNumber(localAS), localAddress: address("192.0.2.254"), families: families)
  export.localAddressOther = address("2001:db8::254")
  export.isReflectorClient = client
  change(&export)
  return RoutePeer(
    name: "peer\(number)", address: address("192.0.2.\(number)"), asNumber: ASNumber(asNumber),
    routerID: id.map(routerID) ?? routerID("10.0.0.\(number)"), export: export)
}

func announce(
  _ prefixes: [String], via nextHop: String, path: [UInt32] = [], change: (inout PathAttributes) -> Void = { _ in }
) -> Update {
  var attributes = PathAttributes(nextHop: NextHop(address(nextHop)), asPath: ASPath(path.map { ASNumber($0) }))
  change(&attributes)
  let destinations = prefixes.map { NLRI(prefix($0)) }
  return Update(announcements: [.init(AddressFamily(unicast: destinations[0].family), attributes, destinations)])
}

func withdraw(_ prefixes: [String]) -> Update {
  let destinations = prefixes.map { NLRI(prefix($0)) }
  return Update(withdrawals: [.init(AddressFamily(unicast: destinations[0].family), destinations)])
}

/// A routing table with everything that hangs on it.
struct Bench {
  var table: RoutingTable
  var forwarding: [IPPrefix: [IPAddress]] = [:]
  var heard: [PeerID: [IPPrefix: PathAttributes]] = [:]
  var ended: [PeerID: Set<IPFamily>] = [:]
  private var external: Set<PeerID> = []
  var forwardingChanges = 0
  var messages = 0
  /// What a careful peer finds wrong with what it is sent.
  var remarks: [String] = []
  /// Withdrawals of what the peer did not have, which a careful speaker does not send.
  var needlessWithdrawals = 0

  init(clusterID: RouterID? = nil, multipathMax: Int = 16, unknown: NextHopState = .resolvable(interiorCost: 0)) {
    table = RoutingTable(
      routerID: BGPRoutesTests.routerID("10.0.0.254"), clusterID: clusterID, multipathMax: multipathMax, unknownNextHops: unknown)
  }

  mutating func callAsFunction(_ inputs: RoutingTable.Input...) {
    for input in inputs { receive(input) }
    flush()
  }
  mutating func receive(_ input: RoutingTable.Input) {
    if case .peerUp(let id, let peer) = input {
      if peer.isExternal { external.insert(id) } else { external.remove(id) }
      heard[id] = [:]
      ended[id] = []
    }
    if case .peerDown(let id, _) = input { heard[id] = nil }
    table.receive(input)
  }
  mutating func flush() {
    for output in table.flush() {
      switch output {
      case .forwarding(let changes):
        for change in changes {
          forwardingChanges += 1
          forwarding[change.prefix] = change.nextHops.isEmpty ? nil : change.nextHops
        }
      case .updates(let stream):
        for delivery in stream.deliveries {
          for range in delivery.ranges { hear(Array(stream.octets[range]), delivery.peer) }
        }
      }
    }
  }
  private mutating func hear(_ octets: [UInt8], _ id: PeerID) {
    var framer = MessageFramer()
    framer.append(octets)
    let options = DecodeOptions(isExternal: external.contains(id), families: [.ipv4Unicast, .ipv6Unicast])
    while let message = try! framer.next(options: options) {
      messages += 1
      guard case .update(let update) = message else { fatalError("only UPDATE is in a stream") }
      remarks += update.remarks.map(\.description)
      for item in update.withdrawals {
        for nlri in item.destinations where heard[id]!.removeValue(forKey: nlri.prefix) == nil { needlessWithdrawals += 1 }
      }
      for item in update.announcements { for nlri in item.destinations { heard[id]![nlri.prefix] = item.attributes } }
      if let family = update.endOfRIB?.unicast { ended[id]!.insert(family) }
    }
    precondition(framer.isEmpty, "a range ends with a message")
  }
  func via(_ text: String) -> [String] { (forwarding[prefix(text)] ?? []).map(\.description) }
  func reason(_ text: String) -> String? { table.report().first { $0.prefix == prefix(text) && $0.isBest }?.reason }
}
