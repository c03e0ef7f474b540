/// A router that BIRD 2 speaks for: an implementation independent of ours.
import Addresses
import Sockets

struct BirdRouter {
  let name: String
  let paths: LabPaths
  let fabric: Fabric

  var configurationPath: String { "\(paths.host(name))/bird.conf" }
  var controlPath: String { "\(paths.host(name))/bird.ctl" }
  var pidPath: String { "\(paths.host(name))/bird.pid" }

  func configuration() -> String {
    guard let own = fabric.speaker(name) else { return "" }
    // The routes of the underlay are learned from the kernel: next hops that lie behind other routers are found by them.
    var text = """
      # Router \(name) of lab \(paths.lab): \(fabric.topology.arrangement.rawValue), AS \(own.asNumber).
      log "\(paths.log(name))" all;
      router id \(own.address4.address);
      protocol device { scan time 1; }
      protocol direct { ipv4; ipv6; }
      protocol kernel kernel4 { learn; ipv4 { import all; export where source = RTS_BGP; }; }
      protocol kernel kernel6 { learn; ipv6 { import all; export where source = RTS_BGP; }; }

      """
    for peerName in fabric.sessions(of: name) {
      guard let peer = fabric.speaker(peerName) else { continue }
      let isExternal = own.asNumber != peer.asNumber
      for (family, suffix) in [(IPFamily.v4, "4"), (.v6, "6")] {
        text += """
          protocol bgp \(Self.symbol(peerName))_v\(suffix) {
            local \(fabric.address(of: own, for: peer, family)) as \(own.asNumber);
            neighbor \(fabric.address(of: peer, for: own, family)) as \(peer.asNumber);

          """
        if isExternal, !fabric.isDirect(own, peer) { text += "  multihop;\n" }
        if fabric.reflects(own, to: peer) { text += "  rr client;\n" }
        if let clusterID = own.clusterID, !isExternal { text += "  rr cluster id \(clusterID);\n" }
        // Within an AS the next hop stays: the underlay leads there, and a reflector may be nowhere near the way.
        text += """
            connect delay time 1; connect retry time 1; error wait time 1, 5;
            graceful restart on;
            ipv\(suffix) { import all; export where source = RTS_BGP;\(isExternal ? " next hop self;" : "") };
          }

          """
      }
    }
    return text
  }

  /// BIRD's names have no dashes outside of quotes, and no digit first.
  static func symbol(_ name: String) -> String {
    (name.first?.isNumber == true ? "n" : "") + String(name.map { $0 == "-" ? "_" : $0 })
  }

  struct SessionState {
    let peer: String
    let family: IPFamily
    let state: String
  }

  /// What BIRD says of its sessions; empty when it does not answer.
  func sessions() -> [SessionState] {
    let words = ((try? ask("show protocols")) ?? "").split(separator: "\n").map { $0.split(separator: " ").map(String.init) }
    return fabric.sessions(of: name).flatMap { peer in
      [(IPFamily.v4, "v4"), (.v6, "v6")].compactMap { family, suffix in
        // name, protocol, table, state, since, info: `host1_v4 BGP --- up 07:36:50.123 Established`
        words.first { $0.first == "\(Self.symbol(peer))_\(suffix)" }.map {
          SessionState(peer: peer, family: family, state: $0.count > 5 ? $0[5] : $0.count > 3 ? $0[3] : "?")
        }
      }
    }
  }

  /// What `birdc` says to a command.
  func ask(_ command: String) throws -> String {
    guard let birdc = Preflight.find("birdc") else { return "" }
    let result = try ChildCommand(birdc, ["-s", controlPath] + command.split(separator: " ").map(String.init), newProcessGroup: true)
      .runToEnd()
    return result.output
  }
}
