/// One call of a plugin, as the environment describes it.

/// The verbs of specification 1.0.0. Later ones (GC, STATUS) are refused.
public enum CNICommand: String, CaseIterable, Sendable {
  case add = "ADD"
  case delete = "DEL"
  case check = "CHECK"
  case version = "VERSION"
}

public struct CNICall: Hashable, Sendable {
  public var command: CNICommand
  public var containerID: String
  /// The path of the namespace as the runtime named it; empty when a DEL came without one. For messages and results: the namespace itself
  /// is passed as a descriptor.
  public var networkNamespace: String
  /// The interface to make inside the container.
  public var interfaceName: String
  public var arguments: CNIArguments
  /// Directories of plugins, for delegation.
  public var path: [String]

  public init(
    command: CNICommand, containerID: String, networkNamespace: String, interfaceName: String, arguments: CNIArguments = CNIArguments(),
    path: [String] = []
  ) {
    self.command = command
    self.containerID = containerID
    self.networkNamespace = networkNamespace
    self.interfaceName = interfaceName
    self.arguments = arguments
    self.path = path
  }

  /// Reads the environment through `variable`. Throws error code 4 naming every variable that is missing or wrong.
  /// VERSION looks at nothing else: runtimes probe it with placeholders.
  public init(environment variable: (String) -> String?) throws(CNIError) {
    let word = variable("CNI_COMMAND") ?? ""
    guard let command = CNICommand(rawValue: word) else {
      let verbs = CNICommand.allCases.map(\.rawValue).joined(separator: ", ")
      throw CNIError(
        .invalidEnvironment, word.isEmpty ? "CNI_COMMAND is not set" : "CNI_COMMAND \"\(word)\" is unknown", details: "one of \(verbs)")
    }
    self.command = command
    containerID = variable("CNI_CONTAINERID") ?? ""
    networkNamespace = variable("CNI_NETNS") ?? ""
    interfaceName = variable("CNI_IFNAME") ?? ""
    path = (variable("CNI_PATH") ?? "").split(separator: ":").map(String.init)
    guard command != .version else {
      arguments = CNIArguments()
      return
    }
    arguments = try CNIArguments(parsing: variable("CNI_ARGS") ?? "")
    if let fault { throw CNIError(.invalidEnvironment, fault) }
  }

  /// What is wrong with the values, if anything.
  public var fault: String? {
    if let fault = Self.containerIDFault(containerID) { return "CNI_CONTAINERID \(fault)" }
    if let fault = Self.interfaceNameFault(interfaceName) { return "CNI_IFNAME \(fault)" }
    // DEL with an empty namespace happens when the container is long gone; ADD and CHECK cannot do without.
    if networkNamespace.isEmpty, command == .add || command == .check { return "CNI_NETNS is not set" }
    return nil
  }

  /// "Must start with an alphanumeric character, optionally followed by any combination of one or more alphanumeric characters,
  /// underscore, dot or hyphen." (specification, "Parameters")
  static func containerIDFault(_ id: String) -> String? {
    if id.isEmpty { return "is not set" }
    guard isAlphanumeric(id.utf8.first!) else { return "\"\(id)\" does not begin with a letter or digit" }
    let plain = id.utf8.allSatisfy { isAlphanumeric($0) || $0 == UInt8(ascii: "_") || $0 == UInt8(ascii: ".") || $0 == UInt8(ascii: "-") }
    return plain ? nil : "\"\(id)\" has characters other than letters, digits, '_', '.' and '-'"
  }

  /// The kernel's rules (dev_valid_name): at most 15 octets, no '/', ':' or white space, not "." or "..".
  static func interfaceNameFault(_ name: String) -> String? {
    if name.isEmpty { return "is not set" }
    if name.utf8.count > 15 { return "\"\(name)\" is longer than 15 octets" }
    if name == "." || name == ".." { return "\"\(name)\" is no name of an interface" }
    let allowed = name.utf8.allSatisfy { $0 > 0x20 && $0 != UInt8(ascii: "/") && $0 != UInt8(ascii: ":") && $0 != 0x7f }
    return allowed ? nil : "\"\(name)\" has '/', ':' or white space"
  }

  private static func isAlphanumeric(_ byte: UInt8) -> Bool {
    switch byte {
    case UInt8(ascii: "a")...UInt8(ascii: "z"), UInt8(ascii: "A")...UInt8(ascii: "Z"), UInt8(ascii: "0")...UInt8(ascii: "9"): true
    default: false
    }
  }
}

/// CNI_ARGS: `KEY=VALUE;KEY=VALUE`, in any order; unknown keys are kept.
public struct CNIArguments: Hashable, Sendable, CustomStringConvertible {
  public private(set) var pairs: [String: String]
  /// As it was given.
  public let description: String

  public init() {
    pairs = [:]
    description = ""
  }
  public init(parsing text: String) throws(CNIError) {
    description = text
    pairs = [:]
    for part in text.split(separator: ";") {
      // Values may hold '=' themselves (MARGAY_LABELS): the first one separates.
      guard let equals = part.firstIndex(of: "="), equals != part.startIndex else {
        throw CNIError(.invalidEnvironment, "CNI_ARGS: \"\(part)\" is not KEY=VALUE")
      }
      pairs[String(part[..<equals])] = String(part[part.index(after: equals)...])
    }
  }
  /// Nil also for an empty value.
  public subscript(key: String) -> String? { pairs[key].flatMap { $0.isEmpty ? nil : $0 } }

  /// The pod of a Kubernetes runtime, if it is one.
  public var pod: (namespace: String, name: String)? {
    guard let name = self["K8S_POD_NAME"], let namespace = self["K8S_POD_NAMESPACE"] else { return nil }
    return (namespace, name)
  }
  /// `MARGAY_LABELS=app=web,tier=front`
  public var labels: [String: String] {
    get throws(CNIError) {
      var labels: [String: String] = [:]
      for part in (self["MARGAY_LABELS"] ?? "").split(separator: ",") {
        let sides = part.split(separator: "=", maxSplits: 1, omittingEmptySubsequences: false)
        guard sides.count == 2, !sides[0].isEmpty else {
          throw CNIError(.invalidEnvironment, "CNI_ARGS: MARGAY_LABELS: \"\(part)\" is not key=value")
        }
        labels[String(sides[0])] = String(sides[1])
      }
      return labels
    }
  }
  /// `MARGAY_PROFILES=web,db`; nil when not given.
  public var profiles: [String]? { self["MARGAY_PROFILES"].map { $0.split(separator: ",").map(String.init) } }
}
