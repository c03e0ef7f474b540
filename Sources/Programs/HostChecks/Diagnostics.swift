/// `margay node diags`: what somebody else needs to understand this host, in one archive.
///
/// Everything is read, nothing is changed. What cannot be read (no right, no such program, no answer) is told in SUMMARY.txt, and so is every
/// secret that was left out.
import Addresses
public import Datastore
import Documents
import Glibc
import JSON
import Names
import NetlinkEdge
import NetlinkMessages
import Resources
import RulesetDriver
import Rulesets
import Sockets

public struct Diagnostics: Sendable {
  public struct Options: Sendable {
    public var version: String
    public var runDirectory: String
    public var stateDirectory: String
    /// Nil: none is named; the reason goes into the summary.
    public var datastore: (any Datastore)?
    public var datastoreProblem: String?
    public var environment: [String]
    /// Where daemons may have put their logs.
    public var logFolders = ["/var/log/margay", "/var/log/calico"]
    public init(
      version: String, runDirectory: String, stateDirectory: String, datastore: (any Datastore)?, datastoreProblem: String?,
      environment: [String]
    ) {
      self.version = version
      self.runDirectory = runDirectory
      self.stateDirectory = stateDirectory
      self.datastore = datastore
      self.datastoreProblem = datastoreProblem
      self.environment = environment
    }
  }
  public struct Summary: Sendable {
    public var collected: [String] = []
    public var missing: [String] = []
    public var leftOut: [String] = []
    /// What goes into the archive as SUMMARY.txt, and to the terminal.
    public var text: String {
      func list(_ title: String, _ lines: [String]) -> String {
        lines.isEmpty ? "" : "\(title)\n" + lines.map { "  \($0)\n" }.joined()
      }
      return list("Collected:", collected) + list("Not collected:", missing) + list("Secrets left out:", leftOut)
    }
  }

  private let options: Options
  private let now = UTCTime.now()
  private var archive: TarArchive
  private var summary = Summary()
  /// The folder inside of the archive.
  private let folder: String

  private init(_ options: Options) {
    self.options = options
    folder = "margay-diags-" + now.text.filter { $0 != "-" && $0 != ":" }
    archive = TarArchive(time: now.unixSeconds)
  }

  /// Writes the archive into `directory` and returns its path; without `gzip` on this host it stays a plain tar.
  public static func collect(_ options: Options, into directory: String) async throws -> (path: String, summary: Summary) {
    var diagnostics = Diagnostics(options)
    diagnostics.host()
    diagnostics.network()
    diagnostics.daemons()
    diagnostics.logs()
    await diagnostics.resources()
    let summary = diagnostics.summary
    diagnostics.archive.add("\(diagnostics.folder)/SUMMARY.txt", Array(summary.text.utf8))
    let path = "\(directory)/\(diagnostics.folder).tar"
    // Only for whoever made it: the network's plan is in it.
    try Files.writeAtomically(diagnostics.archive.finished, to: path, mode: 0o600)
    if let gzip = Self.find("gzip"), try ChildCommand(gzip, ["-f", path]).runToEnd().code == 0 { return (path + ".gz", summary) }
    return (path, summary)
  }

  // MARK: What is collected

  private mutating func put(_ name: String, _ text: String) {
    archive.add("\(folder)/\(name)", Array(text.utf8))
    summary.collected.append(name)
  }
  private mutating func miss(_ name: String, _ reason: String) { summary.missing.append("\(name): \(reason)") }

  private mutating func host() {
    var text = "margay \(options.version)\ntime \(now.text)\nuid \(geteuid())\n"
    for path in ["/proc/version", "/etc/os-release", "/proc/uptime", "/proc/loadavg", "/proc/meminfo"] {
      if let content = try? Files.readText(path) { text += "\n# \(path)\n\(content)" }
    }
    put("host.txt", text)
    var lines: [String] = []
    for variable in options.environment.sorted() {
      let parts = variable.split(separator: "=", maxSplits: 1, omittingEmptySubsequences: false)
      let name = String(parts[0])
      guard
        ["MARGAY_", "CALICO_", "FELIX_", "ETCD_", "DATASTORE_", "NODENAME", "IP", "AS"].contains(where: {
          name == $0 || ($0.hasSuffix("_") && name.hasPrefix($0))
        })
      else { continue }
      let value = parts.count > 1 ? String(parts[1]) : ""
      if Secrets.isSecret(name), !value.isEmpty {
        lines.append("\(name)=\(Secrets.mark)")
        summary.leftOut.append("environment: \(name)")
      } else {
        let shown = Secrets.removed(fromAddress: value)
        if shown != value { summary.leftOut.append("environment: user in \(name)") }
        lines.append("\(name)=\(shown)")
      }
    }
    put("environment.txt", lines.map { $0 + "\n" }.joined())
    let findings = SystemCheck.run(stateDirectory: options.stateDirectory, runDirectory: options.runDirectory)
    put("checksystem.json", JSONValue.array(findings.map(\.json)).text(pretty: true) + "\n")
  }

  private mutating func network() {
    netlink("links.txt") { route throws(NetlinkError) in try route.links().map { "\($0)" } }
    netlink("addresses.txt") { route throws(NetlinkError) in try route.addresses().map { "\($0)" } }
    netlink("routes.txt") { route throws(NetlinkError) in try route.routes().map { "\($0)" } }
    netlink("neighbours.txt") { route throws(NetlinkError) in try route.neighbours().map { "\($0)" } }
    // What people are used to read, where the programs are.
    for (name, program, arguments) in [
      ("ip-link.txt", "ip", ["-d", "-s", "link"]), ("ip-address.txt", "ip", ["address"]), ("ip-rule.txt", "ip", ["rule"]),
      ("ip6-rule.txt", "ip", ["-6", "rule"]),
      ("ip-route.txt", "ip", ["route", "show", "table", "all"]), ("ip6-route.txt", "ip", ["-6", "route", "show", "table", "all"]),
      ("bridge-fdb.txt", "bridge", ["fdb"]), ("nft-tables.txt", "nft", ["list", "tables"]),
      ("nft-margay.txt", "nft", ["list", "table", "inet", "margay"]),
      ("sockets.txt", "ss", ["-ltnup"]), ("modules.txt", "lsmod", []),
    ] {
      command(name, program, arguments)
    }
    do {
      if let table = try NetlinkRuleset().read() {
        let sizes = table.chains.sorted { $0.key < $1.key }.map {
          "chain \($0.key): \($0.value.rules.count) rules, \($0.value.rules.reduce(0) { $0 + $1.packets }) packets"
        }
        let sets = table.sets.keys.sorted().map { "set \($0)" }
        put("ruleset.txt", (["table inet margay, flags \(table.flags.rawValue)"] + sizes + sets).map { $0 + "\n" }.joined())
      } else {
        miss("ruleset.txt", "there is no table inet margay")
      }
    } catch {
      miss("ruleset.txt", "\(error)")
    }
    sysctls()
  }

  private mutating func netlink(_ name: String, _ read: (RouteNetlink) throws(NetlinkError) -> [String]) {
    do throws(NetlinkError) {
      put(name, try read(try RouteNetlink()).map { $0 + "\n" }.joined())
    } catch {
      miss(name, "\(error)")
    }
  }

  private mutating func command(_ name: String, _ program: String, _ arguments: [String]) {
    guard let path = Self.find(program) else { return miss(name, "\(program) is not installed") }
    do throws(SystemError) {
      let (code, output) = try ChildCommand(path, arguments).runToEnd()
      let line = ([program] + arguments).joined(separator: " ")
      if code == 0 {
        put(name, "# \(line)\n\(output)")
      } else {
        miss(name, "`\(line)` ended with \(code): \(output.split(separator: "\n").first ?? "")")
      }
    } catch {
      miss(name, "\(error)")
    }
  }

  private mutating func sysctls() {
    var text = ""
    for folder in [
      "/proc/sys/net/ipv4", "/proc/sys/net/ipv4/conf/all", "/proc/sys/net/ipv4/conf/default", "/proc/sys/net/ipv6/conf/all",
      "/proc/sys/net/netfilter",
    ] {
      for name in (try? Files.list(folder)) ?? [] where !Files.isDirectory("\(folder)/\(name)") {
        if let value = try? Files.readText("\(folder)/\(name)") {
          text += "\(folder.dropFirst(10))/\(name) = \(value.split(whereSeparator: { $0.isWhitespace }).joined(separator: " "))\n"
        }
      }
    }
    put("sysctls.txt", text)
  }

  private mutating func daemons() {
    for daemon in ["felix", "bgp", "controllers"] {
      let path = "\(options.runDirectory)/\(daemon).sock"
      guard let answer = Self.ask(path) else {
        miss("status-\(daemon).json", "nobody answers at \(path)")
        continue
      }
      let (value, left) = Secrets.removed(from: answer)
      put("status-\(daemon).json", value.text(pretty: true) + "\n")
      summary.leftOut += left.map { "status-\(daemon).json: \($0)" }
    }
  }
  private static func ask(_ path: String) -> JSONValue? {
    guard let socket = try? Socket.connecting(toUnix: path), let octets = try? Files.read(descriptor: socket.raw, name: path) else {
      return nil
    }
    return try? JSONValue(parsing: octets)
  }

  /// The last part of each: logs grow, and the end is what matters.
  private static let logOctetsMax = 2 << 20
  private mutating func logs() {
    for folder in options.logFolders {
      guard Files.exists(folder) else {
        miss(folder, "there is no such folder")
        continue
      }
      do throws(SystemError) {
        for name in try Files.list(folder) where name.hasSuffix(".log") && name.utf8.count < 60 {
          let path = "\(folder)/\(name)"
          do throws(SystemError) {
            let octets = try Files.read(path)
            let kept = octets.suffix(Self.logOctetsMax)
            put("log-\(folder.split(separator: "/").last ?? "")-\(name)", String(decoding: kept, as: UTF8.self))
          } catch {
            miss(path, "\(error)")
          }
        }
      } catch {
        miss(folder, "\(error)")
      }
    }
    command("journal.txt", "journalctl", ["--no-pager", "--boot", "--lines", "5000", "--unit", "margay*"])
  }

  private mutating func resources() async {
    guard let datastore = options.datastore else {
      return miss("resources", options.datastoreProblem ?? "no datastore is named")
    }
    for kind in Kind.allCases {
      do throws(DatastoreError) {
        let items = try await datastore.list(prefix: ResourceKey.prefix(of: kind)).items
        if items.isEmpty { continue }
        var documents: [JSONValue] = []
        for item in items {
          guard let document = try? JSONValue(parsing: item.value) else {
            miss(item.key, "its value is not JSON")
            continue
          }
          let (value, left) = Secrets.removed(from: document)
          documents.append(value)
          summary.leftOut += left.map { "\(item.key.split(separator: "/").suffix(3).joined(separator: "/")): \($0)" }
        }
        let list: JSONValue = [
          "kind": .string("\(kind.rawValue)List"), "apiVersion": .string(ResourceCodec.apiVersion), "items": .array(documents),
        ]
        put("resources-\(kind.plural).yaml", list.yamlText)
      } catch {
        // The next kinds would wait as long for nothing.
        return miss("resources-\(kind.plural).yaml and the kinds behind it", "\(error)")
      }
    }
    for (name, prefix) in [
      ("status-keys.json", StatusKeys.felixRoot), ("bgp-keys.json", StatusKeys.bgpRoot), ("ipam-keys.json", "/calico/ipam/v2/"),
    ] {
      guard let items = try? await datastore.list(prefix: prefix).items else {
        miss(name, "the datastore did not answer")
        continue
      }
      let members = items.map { JSONObject.Member($0.key, Secrets.removed(from: (try? JSONValue(parsing: $0.value)) ?? nil).value) }
      put(name, JSONValue.object(JSONObject(members)).text(pretty: true) + "\n")
    }
  }

  private static func find(_ program: String) -> String? {
    ["/usr/sbin", "/usr/bin", "/sbin", "/bin", "/usr/local/sbin", "/usr/local/bin"].map { "\($0)/\(program)" }.first {
      unsafe access($0, X_OK) == 0
    }
  }
}
