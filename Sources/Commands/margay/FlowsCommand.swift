/// margay flows: what this host's packets met.
import ArgumentParser
import Glibc
import JSON
import Names
import Sockets
import Tables

struct Flows: ParsableCommand {
  static let configuration = CommandConfiguration(
    abstract: "Connections that policy denied on this host, and by which rule.",
    discussion: """
      Shows the last records that felix keeps, and with -f the new ones as they come. The same flow again within a tenth of a second is one \
      record with a count. Asks the felix of this host, as root. Under a flood the kernel tells only of some packets; its counters have all.
      """)
  enum Output: String, ExpressibleByArgument, CaseIterable { case table, json }
  @Flag(name: [.customShort("f"), .long], help: "Go on with what comes.") var follow = false
  @Option(name: .shortAndLong, help: "table, or json: a line for each record.") var output: Output = .table
  @Flag(name: .long, help: "Only what was denied.") var denied = false
  @Option(name: .long, help: "Only from this workload (namespace/name) or address; the beginning of it will do.") var from: String?
  @Option(name: .long, help: "Only to this workload or address.") var to: String?
  @Option(name: .long, help: "Where the daemons' sockets live.") var runDir = "/run/margay"

  func run() throws {
    let path = "\(runDir)/flows.sock"
    let socket: Socket
    do throws(SystemError) {
      socket = try Socket.connecting(toUnix: path)
    } catch {
      let hint = error.code == EACCES ? "only root may ask" : "is felix running on this host?"
      throw CommandProblem("\(error); \(hint)")
    }
    if output == .table { write(Self.line(Self.headings)) }
    var buffer: [UInt8] = []
    while true {
      while let end = buffer.firstIndex(of: UInt8(ascii: "\n")) {
        let line = Array(buffer[..<end])
        buffer.removeSubrange(...end)
        guard let record = try? JSONValue(parsing: line) else { continue }
        if record["recent"] != nil {
          if !follow { return }
          continue
        }
        show(record)
      }
      guard let count = try socket.receive(into: &buffer), count > 0 else { throw CommandProblem("felix has closed the connection") }
    }
  }

  private func show(_ record: JSONValue) {
    func matches(_ wanted: String?, _ end: JSONValue?) -> Bool {
      guard let wanted else { return true }
      return [end?["name"]?.string, end?["address"]?.string].contains { $0?.hasPrefix(wanted) ?? false }
    }
    guard matches(from, record["from"]), matches(to, record["to"]), !denied || record["verdict"]?.string == "denied" else { return }
    switch output {
    case .json: write(record.text(pretty: false) + "\n")
    case .table: write(Self.line(Self.cells(record)))
    }
  }

  // Lines come one by one, so widths are fixed, and a long word moves the rest.
  private static let headings = ["TIME", "VERDICT", "DIRECTION", "FROM", "TO", "PROTOCOL", "PORT", "PACKETS", "BYTES", "TIER", "DECIDED BY"]
  private static let widths = [15, 8, 9, 24, 24, 8, 6, 7, 8, 10, 0]

  private static func cells(_ record: JSONValue) -> [String] {
    func end(_ value: JSONValue?) -> String { value?["name"]?.string ?? value?["address"]?.string ?? "" }
    func number(_ name: String) -> String { record[name]?.integer.map(String.init) ?? "" }
    // The day is known to who looks; 15 characters of `T10:11:12.345678`.
    let time = record["time"]?.string.map { String($0.drop { $0 != "T" }.dropFirst().prefix(15).filter { $0 != "Z" }) } ?? ""
    let port = record["port"] != nil ? number("port") : record["icmpType"] != nil ? "type \(number("icmpType"))" : "-"
    return [
      time, record["verdict"]?.string ?? "", record["direction"]?.string ?? "", end(record["from"]), end(record["to"]),
      record["protocol"]?.string ?? "", port, number("packets"), number("bytes"), record["tier"]?.string ?? "-", record["reason"]?.string ?? "",
    ]
  }
  private static func line(_ cells: [String]) -> String {
    zip(cells, widths).map { $0 + String(repeating: " ", count: max(0, $1 - $0.count)) }.joined(separator: "  ") + "\n"
  }
}
