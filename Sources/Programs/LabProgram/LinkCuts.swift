/// Cutting cables and mending them.
///
/// A cut takes the router's port down: the other end loses its carrier, as with a cable pulled out. A silent cut drops all packets at the
/// router's port while both ends believe in the cable: only timers notice.
import Addresses
import Glibc
import JSON
import NetlinkEdge
import NetlinkMessages
import Sockets

extension Lab {
  public enum LinkState: String, Sendable {
    case up, cut
    case silent = "cut silently"
  }

  public var linkNames: [String] { fabric.cables.map(\.name) }

  func cable(_ name: String) throws -> Fabric.Cable {
    let ends = fabric.cables.first { cable in cable.name == name || "\(cable.b.place)-\(cable.a.place)" == name }
    if let ends { return ends }
    throw LabProblem("lab \(paths.lab) has no link \(name); there are \(linkNames.joined(separator: ", "))")
  }

  public func linkState(_ name: String) throws -> LinkState {
    let cable = try cable(name)
    let namespace = try NetworkNamespace.open(named: paths.namespace(cable.b.place))
    guard try RouteNetlink(namespace: namespace).link(named: cable.b.interface)?.isUp == true else { return .cut }
    return Files.exists(silenceMark(cable)) ? .silent : .up
  }

  public func cut(_ name: String, silently: Bool = false) throws {
    let cable = try cable(name)
    let namespace = try NetworkNamespace.open(named: paths.namespace(cable.b.place))
    if silently {
      let port = cable.b.interface
      try nft(
        """
        table inet \(Self.silenceTable(port)) {
          chain in { type filter hook prerouting priority -400; iifname "\(port)" drop; }
          chain out { type filter hook postrouting priority 400; oifname "\(port)" drop; }
        }

        """, namespace)
      try Files.write([], to: silenceMark(cable), create: true)
      return
    }
    try setPort(cable, isUp: false, namespace)
  }

  public func mend(_ name: String) throws {
    let cable = try cable(name)
    let namespace = try NetworkNamespace.open(named: paths.namespace(cable.b.place))
    if Files.exists(silenceMark(cable)) {
      try nft("delete table inet \(Self.silenceTable(cable.b.interface))\n", namespace)
      try Files.remove(silenceMark(cable))
    }
    try setPort(cable, isUp: true, namespace)
    // A port that goes down takes its IPv6 addresses and its routes along.
    let netlink = try RouteNetlink(namespace: namespace)
    if let link = try netlink.link(named: cable.b.interface) {
      for address in cable.b.addresses {
        try netlink.apply(.setAddress(AssignedAddress(interface: link.index, address: address, flags: .noDuplicateDetection)))
      }
    }
    for router in topology.routers { try routeUnderlay(of: router.name) }
  }

  private func setPort(_ cable: Fabric.Cable, isUp: Bool, _ namespace: borrowing NetworkNamespace) throws {
    let netlink = try RouteNetlink(namespace: NetworkNamespace.open(named: paths.namespace(cable.b.place)))
    guard let link = try netlink.link(named: cable.b.interface) else {
      throw LabProblem("\(cable.b.place) has no interface \(cable.b.interface) any more; bring the lab down and up again")
    }
    try netlink.apply(.changeLink(index: link.index, LinkChange(isUp: isUp)))
  }

  private func silenceMark(_ cable: Fabric.Cable) -> String { "\(paths.directory)/\(cable.name).silent" }
  private static func silenceTable(_ port: String) -> String { "silent_\(BirdRouter.symbol(port))" }

  private func nft(_ text: String, _ namespace: borrowing NetworkNamespace) throws {
    guard let nft = Preflight.find("nft") else { throw LabProblem("nft, which silences links, is not installed: apt-get install nftables") }
    let path = "\(paths.directory)/silence.nft"
    try Files.writeAtomically(Array(text.utf8), to: path)
    let result = try ChildCommand(nft, ["-f", path], networkNamespace: namespace.descriptor.borrowed, newProcessGroup: true).runToEnd()
    guard result.code == 0 else { throw LabProblem("nft -f \(path): \(result.output)") }
  }
}
