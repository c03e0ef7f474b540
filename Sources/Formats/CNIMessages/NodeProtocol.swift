/// The words between `margay-cni` and the node process over a unix stream socket.
///
/// One request and one answer per connection, each a length (four octets, network byte order) and that many octets of JSON. The descriptor
/// of the container's network namespace travels with the first octets of the request (SCM_RIGHTS): the node process may live in other mount
/// and PID namespaces, where the runtime's path means nothing. Both sides state the version of the protocol, so that a plugin and a node of
/// different releases tell each other so instead of misreading.

public import JSON

public enum NodeProtocol {
  public static let version: Int64 = 2
  /// Requests of version 1 had neither `role` nor `ipamResult`; a node reads them still, because they may lie on disk as tombstones.
  static let versionOldest: Int64 = 1
  /// Octets of JSON that a frame may hold; configurations with a previous result are a few kilobytes.
  public static let frameMax = 1 << 20
  /// Octets that a runtime may write to a plugin: with the rest of a request and a delegated result they must fit into a frame.
  public static let configurationMax = frameMax / 2
  public static let socketDefault = "/run/margay/cni.sock"
  public static let tombstonesDefault = "/var/lib/margay/cni/tombstones"
  /// How long the plugin waits for an answer. Runtimes give up after some minutes (kubelet: 2 min for the whole sandbox).
  public static let timeoutSecondsDefault: Int64 = 90

  /// Where a plugin leaves a DEL that could not be delivered: as configured, else beside a socket that is not the usual one, so that
  /// several nodes of one machine keep apart.
  public static func tombstones(configured: String?, socket: String) -> String {
    if let configured, !configured.isEmpty { return configured }
    if socket == socketDefault { return tombstonesDefault }
    guard let slash = socket.utf8.lastIndex(of: UInt8(ascii: "/")) else { return "tombstones" }
    return "\(socket[..<slash])/tombstones"
  }

  public static func frame(_ json: JSONValue) -> [UInt8] {
    let body = json.bytes
    let count = UInt32(body.count)
    return [UInt8(truncatingIfNeeded: count >> 24), UInt8(truncatingIfNeeded: count >> 16), UInt8(truncatingIfNeeded: count >> 8),
      UInt8(truncatingIfNeeded: count)] + body
  }

  /// The JSON of a whole frame at the beginning of `octets`; nil when more must come. Throws code 102 for what can never be a frame.
  public static func unframe(_ octets: [UInt8]) throws(CNIError) -> JSONValue? {
    guard octets.count >= 4 else { return nil }
    let count = octets[0..<4].reduce(0) { $0 << 8 | Int($1) }
    guard count <= frameMax else { throw CNIError(.nodeProtocol, "a frame of \(count) octets; at most \(frameMax) are accepted") }
    guard octets.count >= 4 + count else { return nil }
    guard octets.count == 4 + count else { throw CNIError(.nodeProtocol, "octets after the end of the frame") }
    do throws(JSONError) {
      return try JSONValue(parsing: octets[4...])
    } catch {
      throw CNIError(.nodeProtocol, "the frame is no JSON: \(error)")
    }
  }
}

/// What a plugin is asked to be, which the name it was started under decides.
public enum PluginRole: String, Hashable, Sendable {
  /// Interfaces, routes, endpoint: `margay-cni`, `calico`.
  case network
  /// Addresses alone, for other plugins that make the interfaces: `calico-ipam`, `margay-ipam`.
  case ipam

  /// By the last part of the program's name; runtimes and plugins execute links in their plugin directory.
  public init(program name: some StringProtocol) { self = name == "calico-ipam" || name == "margay-ipam" ? .ipam : .network }
}

/// What the plugin asks of the node process.
public struct NodeRequest: Hashable, Sendable {
  public var role: PluginRole
  public var call: CNICall
  /// The network configuration as the runtime wrote it.
  public var configuration: JSONValue
  /// What another IPAM plugin, started by ours, gave to an ADD; nil when the node assigns addresses itself.
  public var ipamResult: JSONValue?

  public init(role: PluginRole = .network, call: CNICall, configuration: JSONValue, ipamResult: JSONValue? = nil) {
    self.role = role
    self.call = call
    self.configuration = configuration
    self.ipamResult = ipamResult
  }

  public var json: JSONValue {
    var json: JSONValue = [
      "protocol": .integer(NodeProtocol.version), "role": .string(role.rawValue),
      "command": .string(call.command.rawValue),
      "containerID": .string(call.containerID),
      "netns": .string(call.networkNamespace),
      "ifName": .string(call.interfaceName),
      "args": .string(call.arguments.description),
      "path": .array(call.path.map { .string($0) }),
      "config": configuration,
    ]
    if let ipamResult { json["ipamResult"] = ipamResult }
    return json
  }

  /// Throws code 102 for another protocol version or a malformed request, 4 for values that the environment could not have held.
  public init(_ json: JSONValue) throws(CNIError) {
    guard let version = json["protocol"]?.integer else { throw CNIError(.nodeProtocol, "the request states no protocol version") }
    guard (NodeProtocol.versionOldest...NodeProtocol.version).contains(version) else {
      throw CNIError(
        .nodeProtocol, "margay-cni speaks protocol \(version), the node process \(NodeProtocol.version)",
        details: "install margay-cni and margay of the same release")
    }
    guard let role = PluginRole(rawValue: json["role"]?.string ?? PluginRole.network.rawValue),
      let command = json["command"]?.string.flatMap(CNICommand.init(rawValue:)), let containerID = json["containerID"]?.string,
      let networkNamespace = json["netns"]?.string, let interfaceName = json["ifName"]?.string, let arguments = json["args"]?.string,
      let configuration = json["config"]
    else { throw CNIError(.nodeProtocol, "the request lacks a member") }
    self.role = role
    ipamResult = json["ipamResult"]
    call = CNICall(
      command: command, containerID: containerID, networkNamespace: networkNamespace, interfaceName: interfaceName,
      arguments: try CNIArguments(parsing: arguments), path: json["path"]?.array?.compactMap(\.string) ?? [])
    if let fault = call.fault { throw CNIError(.invalidEnvironment, fault) }
    self.configuration = configuration
  }

  // MARK: Tombstones

  /// The name of the file that stands for this DEL. Container and interface identify an attachment (specification, "Parameters"), so a
  /// repeated DEL writes the same file. Names are escaped and long ones cut with a hash, to fit into 255 octets.
  public var tombstoneName: String {
    var name = ""
    for byte in "\(call.containerID)+\(call.interfaceName)\(role == .ipam ? "+ipam" : "")".utf8 {
      switch byte {
      case UInt8(ascii: "a")...UInt8(ascii: "z"), UInt8(ascii: "A")...UInt8(ascii: "Z"), UInt8(ascii: "0")...UInt8(ascii: "9"),
        UInt8(ascii: "_"), UInt8(ascii: "-"), UInt8(ascii: "+"):
        name.unicodeScalars.append(UnicodeScalar(byte))
      default: name += "%" + String(byte, radix: 16)
      }
    }
    if name.utf8.count > 200 {
      // FNV-1a over 64 bits.
      let hash = name.utf8.reduce(0xcbf2_9ce4_8422_2325 as UInt64) { ($0 ^ UInt64($1)) &* 0x100_0000_01b3 }
      name = "\(name.prefix(180))+\(String(hash, radix: 16))"
    }
    return name + Self.tombstoneSuffix
  }
  public static let tombstoneSuffix = ".del.json"
}

/// What the node process answers.
public enum NodeResponse: Hashable, Sendable {
  /// Nil where the verb prints nothing (DEL, CHECK).
  case success(JSONValue?)
  case failure(CNIError)

  public var json: JSONValue {
    var object = JSONObject()
    object["protocol"] = .integer(NodeProtocol.version)
    switch self {
    case .success(let result): object["result"] = result ?? .object(JSONObject())
    case .failure(let error):
      object["error"] = [
        "code": .integer(Int64(error.code.rawValue)), "msg": .string(error.message), "details": .string(error.details),
      ]
    }
    return .object(object)
  }

  public init(_ json: JSONValue) throws(CNIError) {
    // A node of another release refuses with an error that we can still read, whatever else it changed.
    if let error = json["error"], let code = error["code"]?.integer, let message = error["msg"]?.string {
      self = .failure(CNIError(CNIError.Code(rawValue: UInt32(clamping: code)), message, details: error["details"]?.string ?? ""))
      return
    }
    guard json["protocol"]?.integer == NodeProtocol.version, let result = json["result"] else {
      throw CNIError(.nodeProtocol, "the node process answered in words that this margay-cni does not know",
        details: "install margay-cni and margay of the same release")
    }
    // Spelled out: a bare `nil` beside a JSONValue would be JSON's null.
    self = .success(result.object?.isEmpty == true ? JSONValue?.none : result)
  }
}
