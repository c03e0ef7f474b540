/// The rack router: a real BIRD 2 in its own namespace, an implementation independent of ours.
import Addresses
import Sockets

struct Rack {
  let paths: LabPaths
  let topology: Topology

  var configurationPath: String { "\(paths.directory)/rack/bird.conf" }
  var controlPath: String { "\(paths.directory)/rack/bird.ctl" }
  var pidPath: String { "\(paths.directory)/rack/bird.pid" }

  func configuration(_ arrangement: Topology.Arrangement) -> String {
    var text = """
      # The rack router of lab \(paths.lab): \(arrangement.rawValue).
      log "\(paths.log("rack"))" all;
      router id 172.30.0.1;
      protocol device { scan time 1; }
      protocol direct { ipv4; ipv6; }
      protocol kernel kernel4 { learn off; ipv4 { import none; export where source = RTS_BGP; }; }
      protocol kernel kernel6 { learn off; ipv6 { import none; export where source = RTS_BGP; }; }

      """
    for host in topology.hosts {
      let sides = [("4", host.routerAddress4, host.address4), ("6", host.routerAddress6, host.address6)]
      for (family, router, address) in sides {
        text += """
          protocol bgp \(host.name)_v\(family) {
            local \(router.address) as \(topology.routerAS(arrangement));
            neighbor \(address.address) as \(topology.hostAS(host, arrangement));
            connect delay time 1; connect retry time 1; error wait time 1, 5;
            graceful restart on;
            ipv\(family) { import all; export where source = RTS_BGP; next hop self; };
          }

          """
      }
    }
    return text
  }

  /// What `birdc` says to a command.
  func ask(_ command: String) throws -> String {
    guard let birdc = Preflight.find("birdc") else { return "" }
    let result = try ChildCommand(birdc, ["-s", controlPath] + command.split(separator: " ").map(String.init), newProcessGroup: true)
      .runToEnd()
    return result.output
  }
}
