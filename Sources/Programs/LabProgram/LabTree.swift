/// A lab's status as a drawn tree: spine, racks, hosts, workloads; each with what speaks there and how well.
import Addresses
import Tables

struct LabTree {
  let status: LabStatus
  let palette: Palette

  private struct Branch {
    var text: String
    var branches: [Branch] = []
  }

  func text() -> String {
    let head =
      "lab \(palette(status.lab, .bold)): \(status.topology.arrangement.rawValue); datastore \(status.datastore) "
      + mark(status.datastoreFault) + "\n"
    let racks = status.speakers.filter { $0.role == "rack" }.map { rack in
      Branch(text: line(rack, links: linksUp(of: rack)), branches: status.speakers.filter { isHost($0, of: rack) }.map(host))
    }
    let spines = status.speakers.filter { $0.role == "spine" }
    var roots: [Branch]
    switch spines.count {
    case 0: roots = racks
    case 1: roots = [Branch(text: line(spines[0]), branches: racks)]
    default: roots = spines.map { Branch(text: line($0)) } + racks
    }
    if let datastore = status.links.first(where: { $0.ends.first == Topology.etcd }) {
      roots.append(
        Branch(text: "\(palette(Topology.etcd, .bold))  \(status.datastore)  \(mark(status.datastoreFault))  \(link(datastore))"))
    }
    var text = head + roots.map { $0.text + "\n" + draw($0.branches, "") }.joined()
    for speaker in status.speakers {
      for session in speaker.sessions where !session.isUp {
        text += "\(palette("down", .red)): \(speaker.name) – \(session.peer) \(session.family): \(session.state)\n"
      }
      for daemon in speaker.daemons {
        if let fault = daemon.fault { text += "\(palette("problem", .red)): \(daemon.name) on \(speaker.name): \(fault)\n" }
      }
    }
    return text
  }

  private func draw(_ branches: [Branch], _ margin: String) -> String {
    branches.enumerated().map { index, branch in
      let isLast = index == branches.count - 1
      return margin + palette(isLast ? "└─ " : "├─ ", .dim) + branch.text + "\n"
        + draw(branch.branches, margin + (isLast ? "   " : palette("│  ", .dim)))
    }.joined()
  }

  // MARK: Lines

  private func isHost(_ speaker: LabStatus.Speaker, of rack: LabStatus.Speaker) -> Bool {
    status.topology.hosts.contains { $0.name == speaker.name && $0.rack == rack.name }
  }

  /// A rack's cables to other routers; each is told once, by its first end.
  private func linksUp(of rack: LabStatus.Speaker) -> [LabStatus.Link] {
    let routers = Set(status.topology.routers.map(\.name))
    return status.links.filter { $0.ends[0] == rack.name && routers.contains($0.ends[1]) }
  }

  private func host(_ host: LabStatus.Speaker) -> Branch {
    Branch(
      text: line(host, links: status.links.filter { $0.ends[0] == host.name }),
      branches: status.workloads.filter { $0.host == host.name }.map { workload in
        let state = workload.state ?? "felix does not know it"
        return Branch(
          text: "\(workload.name)  \(palette(workload.namespace, .dim))  \(workload.addresses.map(\.description).joined(separator: " "))  "
            + palette(state, state == "up" ? .green : .red))
      })
  }

  private func line(_ speaker: LabStatus.Speaker, links: [LabStatus.Link] = []) -> String {
    let up = speaker.sessions.count(where: \.isUp)
    let isWhole = up == speaker.sessionsExpected && speaker.sessions.count == up
    var words = [palette(speaker.name, .bold), speaker.addresses.first?.description ?? "", "AS \(speaker.asNumber)"]
    if let clusterID = speaker.clusterID { words.append("reflector \(clusterID)") }
    words.append(speaker.daemons.map { "\($0.name) \(mark($0.fault))" }.joined(separator: " "))
    words.append(palette("\(up)/\(speaker.sessionsExpected) sessions", isWhole ? .green : .red))
    words += links.map(link)
    return words.joined(separator: "  ")
  }

  private func link(_ link: LabStatus.Link) -> String {
    "\(link.name) " + palette(link.state.rawValue, link.state == .up ? .green : .red) + (link.mtu.map { " mtu \($0)" } ?? "")
  }

  private func mark(_ fault: String?) -> String { fault == nil ? palette("✓", .green) : palette("✗", .red) }
}

extension LabStatus {
  public func tree(_ palette: Palette) -> String { LabTree(status: self, palette: palette).text() }
}
