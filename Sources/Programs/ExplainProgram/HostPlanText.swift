/// A host's plan as a person reads it: tables of endpoints with their policies, of sets, of routes.
import Addresses
import HostPlans
import Resources
public import Tables

extension HostPlanning {
  public func text(_ palette: Palette, widthMax: Int? = nil) -> String {
    var text = palette("host \(node)", .bold) + ": \(Self.count(plan.endpoints.count, "workload endpoint")), "
    text += "\(Self.count(plan.hostEndpoints.count, "host endpoint")), \(Self.count(plan.policies.keys.count { $0.kind != .profile }, "policy", "policies")), "
    text += "\(Self.count(plan.ipSets.count, "set")), \(Self.count(plan.routes.count, "route"))\n"
    for table in [endpoints, sets, routes] where !table.isEmpty { text += "\n" + table.text(palette, widthMax: widthMax) }
    if !findings.isEmpty { text += "\n" }
    for (object, words) in findings { text += "\(palette("note", .yellow)) \(object): \(words)\n" }
    return text
  }

  private var endpoints: TextTable {
    var table = TextTable(["endpoint", "interface", "tier", "ingress", "egress", "at the end"])
    func add(_ name: String, _ interface: String, _ rows: [(tier: String, ingress: [ResourceKey], egress: [ResourceKey], end: String)]) {
      for (index, row) in rows.enumerated() {
        let names = [row.ingress, row.egress].map { $0.isEmpty ? "–" : $0.map(\.qualifiedName).joined(separator: ", ") }
        table.append([index == 0 ? name : "", index == 0 ? interface : "", row.tier, names[0], names[1], row.end])
      }
    }
    func rows(_ tiers: [TierLine], _ kind: String = "", hasEnd: Bool = true) -> [(tier: String, ingress: [ResourceKey], egress: [ResourceKey], end: String)] {
      tiers.map { (kind + $0.name, $0.ingress, $0.egress, hasEnd ? $0.defaultAction.rawValue : "–") }
    }
    func profiles(_ names: [String]) -> (tier: String, ingress: [ResourceKey], egress: [ResourceKey], end: String) {
      let keys = names.map { ResourceKey(.profile, name: $0) }
      return ("profiles", keys, keys, "Deny")
    }
    for (key, endpoint) in plan.endpoints.sorted(by: { $0.key < $1.key }) {
      let title = workloads[key].map { Self.workload(key, $0) } ?? ""
      add(title.isEmpty ? key.qualifiedName : title, endpoint.interfaceName, rows(lines(endpoint.ingress, endpoint.egress)) + [profiles(endpoint.profiles)])
    }
    for (key, endpoint) in plan.hostEndpoints.sorted(by: { $0.key < $1.key }) {
      let interface = endpoint.interfaceName.isEmpty ? endpoint.expectedAddresses.map(\.description).joined(separator: ", ") : endpoint.interfaceName
      let before =
        rows(lines(endpoint.untracked.ingress, endpoint.untracked.egress), "untracked ", hasEnd: false)
        + rows(lines(endpoint.preDNAT.ingress, endpoint.preDNAT.egress), "preDNAT ", hasEnd: false)
        + rows(lines(endpoint.forward.ingress, endpoint.forward.egress), "forward ")
      add("host \(key.name)", interface, before + rows(lines(endpoint.normal.ingress, endpoint.normal.egress)) + [profiles(endpoint.profiles)])
    }
    return table
  }

  private var sets: TextTable {
    var table = TextTable(["set of", "members>", "members"])
    for (_, set) in plan.ipSets.sorted(by: { $0.value.explanation < $1.value.explanation }) {
      let some = set.members.sorted().prefix(6).map(Self.text).joined(separator: ", ")
      table.append([set.explanation, "\(set.members.count)", some + (set.members.count > 6 ? ", …" : "")])
    }
    return table
  }

  private var routes: TextTable {
    var table = TextTable(["route to", "leads"])
    for (prefix, route) in plan.routes.sorted(by: { $0.key < $1.key }) {
      switch route {
      case .workload(let interface): table.append(["\(prefix)", "to the workload at \(interface)"])
      case .blackhole: table.append(["\(prefix)", "nowhere: a block of this host"])
      case .direct(let gateway, _): table.append(["\(prefix)", "to the host \(gateway), in this host's subnet"])
      case .tunnel(let kind, let gateway): table.append(["\(prefix)", "into \(plan.settings.tunnels.deviceName(kind)), to \(gateway)"])
      }
    }
    return table
  }

  private static func count(_ number: Int, _ one: String, _ many: String? = nil) -> String {
    "\(number) \(number == 1 ? one : many ?? one + "s")"
  }
}
