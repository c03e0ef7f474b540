/// What stands in a lab, as tables: the same facts that the daemons give on their status sockets.
import JSON
import Tables

public enum LabReport {
  /// The status documents of one daemon on every host; nil for a daemon that does not answer.
  public typealias Documents = [(host: String, document: JSONValue?)]

  public static func documents(_ lab: Lab, _ daemon: String) -> Documents {
    let routers = daemon == "bgp" ? lab.topology.routers.filter { $0.program == .margay }.map(\.name) : []
    return (lab.topology.hosts.map(\.name) + routers).map { ($0, lab.status(of: $0, daemon)) }
  }

  public static func sessions(_ hosts: Documents) -> TextTable {
    var table = TextTable(["host", "session", "peer", "AS>", "state", "received>", "advertised>"])
    for (host, document) in hosts {
      guard let sessions = document?["sessions"]?.array else {
        table.append([TextTable.Cell(host), TextTable.Cell("bgp does not answer", .red), "", "", "", "", ""])
        continue
      }
      for session in sessions {
        let state = session["state"]?.string ?? "?"
        let isUp = state.lowercased() == "established"
        table.append([
          TextTable.Cell(host), TextTable.Cell(text(session["name"])), TextTable.Cell(text(session["peer"])),
          TextTable.Cell(text(session["peerAS"])), isUp ? TextTable.Cell(state, .green) : TextTable.Cell(state, .red),
          TextTable.Cell(text(session["received"])), TextTable.Cell(text(session["advertised"])),
        ])
      }
    }
    return table
  }

  /// The routes that each host learned.
  public static func routes(_ hosts: Documents) -> TextTable {
    var table = TextTable(["host", "learned", "via", "from", "because"])
    for (host, document) in hosts {
      for route in document?["routes"]?.array ?? [] where route["best"]?.bool == true && route["from"]?.string != "local" {
        table.append([
          TextTable.Cell(host), TextTable.Cell(text(route["prefix"])), TextTable.Cell(text(route["nextHop"])),
          TextTable.Cell(text(route["from"])), TextTable.Cell(text(route["reason"])),
        ])
      }
    }
    return table
  }

  public static func endpoints(_ hosts: Documents) -> TextTable {
    var table = TextTable(["host", "workload", "interface", "addresses", "state"])
    for (host, document) in hosts {
      guard let endpoints = document?["endpoints"]?.array else {
        table.append([TextTable.Cell(host), TextTable.Cell("felix does not answer", .red), "", "", ""])
        continue
      }
      for endpoint in endpoints {
        let state = text(endpoint["state"])
        table.append([
          TextTable.Cell(host), TextTable.Cell(text(endpoint["name"])), TextTable.Cell(text(endpoint["interface"])),
          TextTable.Cell((endpoint["addresses"]?.array ?? []).map { text($0) }.joined(separator: " ")),
          state == "up" ? TextTable.Cell(state, .green) : TextTable.Cell(state, .red),
        ])
      }
    }
    return table
  }

  static func text(_ value: JSONValue?) -> String {
    switch value {
    case .string(let text): text
    case .some(let value): value.text()
    case nil: "–"
    }
  }
}
