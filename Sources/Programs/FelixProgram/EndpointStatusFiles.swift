/// A file for each endpoint that is up, for CNI plugins that wait for it: Calico's plugin looks for the name.
///
/// `<folder>/endpoint-status/<orchestrator> <workload> <endpoint>`, each part escaped as in a path of a URL. Ours answers over the CNI socket
/// and needs none. Lives on the loop's thread; the folder is meant to be in memory, as /var/run is.
import Datastore
import JSON
import Names
import Resources
import Sockets

struct EndpointStatusFiles {
  /// Nil: no files.
  private(set) var folder: String?
  private var up: [String: [UInt8]] = [:]
  private var written: [String: [UInt8]] = [:]
  private(set) var problem: String?
  private var isCleared = false

  static func name(_ key: ResourceKey) -> String? {
    guard key.kind == .workloadEndpoint, let name = try? WorkloadEndpointName(parsing: key.name) else { return nil }
    let workload = name.orchestrator == "libnetwork" ? name.workload : "\(key.namespace ?? "default")/\(name.workload)"
    return [name.orchestrator, workload, name.endpoint].map(escape).joined(separator: " ")
  }

  /// Go's url.PathEscape: what RFC 3986, section 3.3, allows in a segment stays, but for `;`, `,` and what Go escapes besides.
  private static func escape(_ part: String) -> String {
    part.utf8.reduce(into: "") { text, byte in
      let character = Character(Unicode.Scalar(byte))
      if byte < 128, character.isLetter || character.isNumber || "-_.~$&+=:@".contains(character) {
        text.append(character)
      } else {
        let hex = String(byte, radix: 16, uppercase: true)
        text += "%" + (hex.count == 1 ? "0" : "") + hex
      }
    }
  }

  /// Another folder: what we wrote in the old one goes.
  mutating func adopt(prefix: String?) {
    let new = prefix.map { "\($0)/endpoint-status" }
    guard new != folder else { return }
    if let folder { for name in written.keys { try? Files.remove("\(folder)/\(name)") } }
    (folder, written, isCleared, problem) = (new, [:], false, nil)
  }

  /// `isUp`: what is known of the endpoints whose status changed; nil content: not up, or gone.
  mutating func report(_ changed: [(key: ResourceKey, content: [UInt8]?)]) {
    for (key, content) in changed { if let name = Self.name(key) { up[name] = content } }
  }

  /// From the first call on the folder says what is up, whatever an earlier run left.
  mutating func write() {
    guard let folder, up != written || !isCleared else { return }
    do throws(SystemError) {
      try Files.makeDirectories(folder)
      if !isCleared {
        for name in try Files.list(folder) where up[name] == nil { try Files.remove("\(folder)/\(name)") }
        isCleared = true
      }
      for name in written.keys where up[name] == nil {
        try? Files.remove("\(folder)/\(name)")
        written[name] = nil
      }
      for (name, content) in up where written[name] != content {
        try Files.writeAtomically(content, to: "\(folder)/\(name)")
        written[name] = content
      }
      problem = nil
    } catch {
      problem = "status files for CNI plugins: \(error)"
    }
  }

  static func content(interface: String, mac: String?, addresses: [String]) -> [UInt8] {
    var document: JSONValue = ["ifaceName": .string(interface)]
    if let mac { document["mac"] = .string(mac) }
    for (member, isOurs) in [("ipv4Nets", { !$0.contains(":") }), ("ipv6Nets", { $0.contains(":") })] as [(String, (String) -> Bool)] {
      let nets = addresses.filter(isOurs)
      if !nets.isEmpty { document[member] = .array(nets.map { .string($0) }) }
    }
    return document.bytes(pretty: false)
  }
}
