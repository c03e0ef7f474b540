/// A topology in a few lines, for `lab validate` and `lab up --dry-run`: what would be made, with the numbers that follow from the file.
import Addresses
import Tables

extension Topology {
  public func summary() -> String {
    let fabric = Fabric(self)
    var text = "\(arrangement.rawValue): \(arrangement.explanation)\n"
    var table = TextTable(["place", "role", "speaks", "AS>", "address", "sessions with"])
    for speaker in fabric.speakers {
      let role = routers.first { $0.name == speaker.name }?.role.rawValue ?? "host in \(speaker.rack ?? "?")"
      table.append([
        speaker.name, role + (speaker.clusterID.map { ", reflector \($0)" } ?? ""), speaker.isMargay ? "margay" : "bird",
        "\(speaker.asNumber)",
        "\(speaker.address4.address)", fabric.sessions(of: speaker.name).joined(separator: " "),
      ])
    }
    text += table.text(indent: 2)
    text += "links: \(fabric.cables.map { $0.name + ($0.mtu.map { " (mtu \($0))" } ?? "") }.joined(separator: ", "))\n"
    text += "datastore: \(datastore.rawValue); pools: \(pools.map(\.description).joined(separator: ", "))\n"
    var guests = TextTable(["workload", "namespace", "host", "labels", "addresses"])
    for workload in workloads {
      guests.append([
        workload.name, workload.namespace, workload.host,
        workload.labels.sorted { $0.key < $1.key }.map { "\($0.key)=\($0.value)" }.joined(separator: " "),
        workload.addresses.isEmpty ? "from the pools" : workload.addresses.map(\.description).joined(separator: " "),
      ])
    }
    return text + guests.text(indent: 2).dropLast()
  }
}
