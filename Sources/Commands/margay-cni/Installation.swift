/// `margay-cni install`: the plugin under all its names in the runtime's plugin directory, and a network configuration for a start.
///
/// Each file appears whole or not at all, and a runtime that looks meanwhile finds the old one. What is there already and is not ours stays,
/// unless `--replace` says otherwise: a `calico` of Calico's own is what a host's pods live on.

import CNIMessages
import Glibc
import JSON
import Sockets

struct Installation {
  struct Problem: Error {
    let text: String
  }
  static let usage = """
    margay-cni install [--bin-dir DIRECTORY] [--conf-dir DIRECTORY] [--name NETWORK] [--socket PATH] [--ipv6] [--replace]
      --bin-dir   where the runtime looks for plugins (/opt/cni/bin)
      --conf-dir  where it looks for networks; without it no configuration is written
      --name      of the network (k8s-pod-network)
      --socket    of the node process, if it is not \(NodeProtocol.socketDefault)
      --ipv6      addresses of both families; without it IPv4 alone
      --replace   also files that are there already and differ
    """
  static let program = "margay-cni"
  static let names = ["calico", "calico-ipam"]
  static let configurationName = "10-margay.conflist"

  var binDirectory = "/opt/cni/bin"
  var configurationDirectory: String?
  var network = "k8s-pod-network"
  var socket: String?
  var hasIPv6 = false
  var replaces = false

  init(_ words: ArraySlice<String>) throws(Problem) {
    var words = words
    while let word = words.popFirst() {
      func value() throws(Problem) -> String {
        guard let value = words.popFirst(), !value.isEmpty else { throw Problem(text: "\(word) needs a value\n\(Self.usage)") }
        return value
      }
      switch word {
      case "--bin-dir": binDirectory = try value()
      case "--conf-dir": configurationDirectory = try value()
      case "--name": network = try value()
      case "--socket": socket = try value()
      case "--ipv6": hasIPv6 = true
      case "--replace": replaces = true
      default: throw Problem(text: "unknown word \"\(word)\"\n\(Self.usage)")
      }
    }
  }

  /// Says what it did, line by line.
  func run() throws(Problem) -> [String] {
    // Looked at as a whole before anything is written.
    let octets = try doing { () throws(SystemError) in try Files.read("/proc/self/exe") }
    let target = "\(binDirectory)/\(Self.program)"
    for name in Self.names {
      let path = "\(binDirectory)/\(name)"
      guard Files.exists(path), !isOurLink(path), !replaces else { continue }
      throw Problem(text: "\(path) is not ours and stays; nothing was installed. Give --replace to have margay-cni in its place")
    }
    var standing: [UInt8]?
    let wanted = Array((configuration.text(pretty: true) + "\n").utf8)
    if let configurationDirectory {
      let path = "\(configurationDirectory)/\(Self.configurationName)"
      standing = Files.exists(path) ? try doing { () throws(SystemError) in try Files.read(path) } : nil
      if let standing, standing != wanted, !replaces {
        throw Problem(text: "\(path) is there with another content and stays; nothing was installed. Give --replace to have it written anew")
      }
    }

    var lines: [String] = []
    try doing { () throws(SystemError) in
      try Files.makeDirectories(binDirectory)
      if (try? Files.read(target)) != octets { try Files.writeAtomically(octets, to: target, mode: 0o755, durable: true) }
    }
    lines.append(target)
    for name in Self.names {
      let path = "\(binDirectory)/\(name)"
      try doing { () throws(SystemError) in
        if isOurLink(path) { return }
        let temporary = "\(path).\(getpid()).new"
        try check(unsafe symlink(Self.program, temporary), "link \(temporary)")
        try Files.rename(temporary, to: path)
      }
      lines.append("\(path) -> \(Self.program)")
    }
    if let configurationDirectory {
      let path = "\(configurationDirectory)/\(Self.configurationName)"
      if standing != wanted {
        try doing { () throws(SystemError) in
          try Files.makeDirectories(configurationDirectory)
          try Files.writeAtomically(wanted, to: path, durable: true)
        }
      }
      lines.append(path)
    }
    return lines
  }

  /// Last, so that a runtime that finds the network finds its plugins too.
  var configuration: JSONValue {
    var plugin: JSONValue = [
      "type": "calico", "ipam": ["type": "calico-ipam", "assign_ipv4": "true", "assign_ipv6": .string(hasIPv6 ? "true" : "false")],
    ]
    if let socket { plugin["margay"] = ["socket": .string(socket)] }
    return ["cniVersion": "1.0.0", "name": .string(network), "plugins": [plugin]]
  }

  private func isOurLink(_ path: String) -> Bool {
    var buffer = [CChar](repeating: 0, count: 256)
    let count = unsafe readlink(path, &buffer, buffer.count)
    return count > 0 && buffer[..<count].map { UInt8(bitPattern: $0) } == Array(Self.program.utf8)
  }

  private func doing<Value>(_ body: () throws(SystemError) -> Value) throws(Problem) -> Value {
    do throws(SystemError) { return try body() } catch { throw Problem(text: "\(error)") }
  }
}
