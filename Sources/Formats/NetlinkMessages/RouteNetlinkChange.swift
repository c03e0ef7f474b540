/// What one may ask of rtnetlink, and what it tells by itself, as values.

public import Octets

/// One change; a batch of them is sent at once and answered one by one.
public enum RouteNetlinkChange: Sendable, CustomStringConvertible {
  /// Fails with EEXIST when the name is taken.
  case addLink(NewLink)
  case changeLink(index: UInt32, LinkChange)
  case deleteLink(index: UInt32)
  /// An address that is there already is success, its flags are updated.
  case setAddress(AssignedAddress)
  case deleteAddress(AssignedAddress)
  /// Fails with EEXIST when the table has a route to this destination with this metric, whoever made it.
  case addRoute(KernelRoute)
  /// Takes the place of whatever route has this destination and metric.
  case replaceRoute(KernelRoute)
  /// Only a route of this protocol, destination, metric and table; ESRCH if there is none.
  case deleteRoute(KernelRoute)
  case setNeighbour(Neighbour)
  case deleteNeighbour(Neighbour)
  case setForwarding(ForwardingEntry)
  case deleteForwarding(ForwardingEntry)

  public func encode(into batch: inout NetlinkBatch) {
    switch self {
    case .addLink(let link):
      batch.add(type: RouteMessageType.newLink, flags: [.create, .exclusive, .acknowledge]) { link.encode(into: &$0) }
    case .changeLink(let index, let change):
      batch.add(type: RouteMessageType.newLink, flags: .acknowledge) { change.encode(index: index, into: &$0) }
    case .deleteLink(let index):
      batch.add(type: RouteMessageType.deleteLink, flags: .acknowledge) { LinkChange().encode(index: index, into: &$0) }
    case .setAddress(let address):
      batch.add(type: RouteMessageType.newAddress, flags: [.create, .replace, .acknowledge]) { address.encode(into: &$0) }
    case .deleteAddress(let address):
      batch.add(type: RouteMessageType.deleteAddress, flags: .acknowledge) { address.encode(into: &$0) }
    case .addRoute(let route):
      batch.add(type: RouteMessageType.newRoute, flags: [.create, .exclusive, .acknowledge]) { route.encode(deleting: false, into: &$0) }
    case .replaceRoute(let route):
      batch.add(type: RouteMessageType.newRoute, flags: [.create, .replace, .acknowledge]) { route.encode(deleting: false, into: &$0) }
    case .deleteRoute(let route):
      batch.add(type: RouteMessageType.deleteRoute, flags: .acknowledge) { route.encode(deleting: true, into: &$0) }
    case .setNeighbour(let neighbour):
      batch.add(type: RouteMessageType.newNeighbour, flags: [.create, .replace, .acknowledge]) { neighbour.encode(into: &$0) }
    case .deleteNeighbour(let neighbour):
      batch.add(type: RouteMessageType.deleteNeighbour, flags: .acknowledge) { neighbour.encode(into: &$0) }
    case .setForwarding(let entry):
      batch.add(type: RouteMessageType.newNeighbour, flags: [.create, .replace, .acknowledge]) { entry.encode(into: &$0) }
    case .deleteForwarding(let entry):
      batch.add(type: RouteMessageType.deleteNeighbour, flags: .acknowledge) { entry.encode(into: &$0) }
    }
  }

  /// Removes something: a missing object is success.
  public var isDeletion: Bool {
    switch self {
    case .deleteLink, .deleteAddress, .deleteRoute, .deleteNeighbour, .deleteForwarding: true
    default: false
    }
  }

  public var description: String {
    switch self {
    case .addLink(let link): "make link \(link.name)"
    case .changeLink(let index, let change): "change link \(index)\(change.name.map { " to \($0)" } ?? "")"
    case .deleteLink(let index): "delete link \(index)"
    case .setAddress(let address): "set \(address)"
    case .deleteAddress(let address): "delete \(address)"
    case .addRoute(let route): "route \(route)"
    case .replaceRoute(let route): "route \(route)"
    case .deleteRoute(let route): "delete route \(route)"
    case .setNeighbour(let neighbour): "set \(neighbour)"
    case .deleteNeighbour(let neighbour): "delete \(neighbour)"
    case .setForwarding(let entry): "set \(entry)"
    case .deleteForwarding(let entry): "delete \(entry)"
    }
  }
}

/// One notification.
public enum RouteNetlinkEvent: Equatable, Sendable {
  /// New or changed in any way (name, state, address).
  case link(Link)
  case linkRemoved(Link)
  case address(AssignedAddress)
  case addressRemoved(AssignedAddress)
  case route(KernelRoute)
  /// Not told by the kernel for IPv4 routes that go with their interface.
  case routeRemoved(KernelRoute)
  case neighbour(Neighbour)
  case neighbourRemoved(Neighbour)
  case forwarding(ForwardingEntry)
  case forwardingRemoved(ForwardingEntry)
  case settings(ForwardingSettings)

  /// Nil for messages of other kinds.
  public static func decode(type: UInt16, _ reader: inout OctetReader) throws(WireError) -> RouteNetlinkEvent? {
    switch type {
    case RouteMessageType.newLink: try Link.decode(&reader).map { .link($0) }
    case RouteMessageType.deleteLink: try Link.decode(&reader).map { .linkRemoved($0) }
    case RouteMessageType.newAddress: try AssignedAddress.decode(&reader).map { .address($0) }
    case RouteMessageType.deleteAddress: try AssignedAddress.decode(&reader).map { .addressRemoved($0) }
    case RouteMessageType.newRoute: try KernelRoute.decode(&reader).map { .route($0) }
    case RouteMessageType.deleteRoute: try KernelRoute.decode(&reader).map { .routeRemoved($0) }
    case RouteMessageType.newNeighbour where try reader.peek() == AddressFamilyNumber.bridge:
      try ForwardingEntry.decode(&reader).map { .forwarding($0) }
    case RouteMessageType.deleteNeighbour where try reader.peek() == AddressFamilyNumber.bridge:
      try ForwardingEntry.decode(&reader).map { .forwardingRemoved($0) }
    case RouteMessageType.newNeighbour: try Neighbour.decode(&reader).map { .neighbour($0) }
    case RouteMessageType.deleteNeighbour: try Neighbour.decode(&reader).map { .neighbourRemoved($0) }
    case RouteMessageType.newSettings: try ForwardingSettings.decode(&reader).map { .settings($0) }
    default: nil
    }
  }
}
