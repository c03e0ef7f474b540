/// What programs read of the data model: names of properties and of members, in all sources but those that define, spell and show the model.
import Sockets

enum Programs {
  /// Fields whose Swift property has another name.
  static let properties = [
    "protocol": "ipProtocol", "apiVersion": "kind", "allowedIps": "allowedIPs", "interfacePrefix": "interfacePrefixes",
    "logActionRateLimit": "logLimit", "logActionRateLimitBurst": "logLimit", "routeRefreshInterval": "resyncIntervalSeconds",
    "reportingInterval": "reportingIntervalSeconds", "reportingTTL": "reportingTTLSeconds",
    "endpointReportingDelay": "endpointReportingDelaySeconds", "ttlSecurity": "ttlSecurityHops", "maxRestartTime": "maxRestartTimeSeconds",
  ]
  static func read(_ field: String) -> Bool {
    let name = (field.split(separator: ".").last { !$0.contains("\"") } ?? "").prefix { $0 != "[" }
    return words.contains(properties[String(name)] ?? String(name))
  }

  private static let words: Set<String> = {
    var words: Set<String> = []
    let sources = #filePath.split(separator: "/").dropLast(3).reduce("") { "\($0)/\($1)" } + "/Sources"
    func isPart(_ byte: UInt8) -> Bool {
      (UInt8(ascii: "a")...UInt8(ascii: "z")).contains(byte | 0x20) || (UInt8(ascii: "0")...UInt8(ascii: "9")).contains(byte)
    }
    func scan(_ folder: String, members: Bool) {
      for name in (try? Files.list(folder)) ?? [] {
        let path = "\(folder)/\(name)"
        if ["Resources", "Documents", "ObjectViews", "OutputForms"].contains(name) { continue }
        // A command names members to show them.
        if Files.isDirectory(path) { scan(path, members: members && name != "Commands") }
        guard name.hasSuffix(".swift"), let text = try? Files.readText(path) else { continue }
        for part in text.utf8.split(separator: UInt8(ascii: ".")).dropFirst() {
          words.insert(String(decoding: part.prefix(while: isPart), as: UTF8.self))
        }
        guard members else { continue }
        for part in text.utf8.split(separator: UInt8(ascii: "\"")) where part.allSatisfy(isPart) {
          words.insert(String(decoding: part, as: UTF8.self))
        }
      }
    }
    scan(sources, members: true)
    return words
  }()
}
