/// Which cluster, and how to be let in.

/// One member of the cluster, as clients reach it.
public struct EtcdEndpoint: Hashable, Sendable, CustomStringConvertible {
  /// A host name, an IPv4 address or an IPv6 address without brackets.
  public var host: String
  public var port: Int
  public init(host: String, port: Int = 2379) {
    self.host = host
    self.port = port
  }
  /// `HOST`, `HOST:PORT`, `[IPv6]`, `[IPv6]:PORT`. Without a port it is etcd's, 2379.
  public init?(_ text: some StringProtocol) {
    let host: String
    let rest: Substring
    if text.hasPrefix("[") {
      guard let end = text.firstIndex(of: "]") else { return nil }
      host = String(text[text.index(after: text.startIndex)..<end])
      rest = Substring(text[text.index(after: end)...])
      guard host.contains(":") else { return nil }
    } else {
      let colon = text.firstIndex(of: ":") ?? text.endIndex
      host = String(text[..<colon])
      rest = Substring(text[colon...])
    }
    guard !host.isEmpty, host.utf8.allSatisfy({ isPartOfHost($0) }) else { return nil }
    self.host = host
    if rest.isEmpty {
      port = 2379
    } else {
      guard rest.hasPrefix(":"), let number = Int(rest.dropFirst()), (1...65535).contains(number) else { return nil }
      port = number
    }
  }
  public var description: String { host.contains(":") ? "[\(host)]:\(port)" : "\(host):\(port)" }
}

private func isPartOfHost(_ octet: UInt8) -> Bool {
  switch octet {
  case UInt8(ascii: "a")...UInt8(ascii: "z"), UInt8(ascii: "A")...UInt8(ascii: "Z"), UInt8(ascii: "0")...UInt8(ascii: "9"): true
  // A zone follows the % of a link-local address.
  case UInt8(ascii: "."), UInt8(ascii: "-"), UInt8(ascii: "_"), UInt8(ascii: ":"), UInt8(ascii: "%"): true
  default: false
  }
}

public struct EtcdConfiguration: Hashable, Sendable {
  public struct TLS: Hashable, Sendable {
    /// Nil: the certificate authorities of this machine.
    public var caFile: String?
    public var certificateFile: String?
    public var keyFile: String?
    /// In place of the files: their content, as calicoctl's configuration file may hold it.
    public var caText: PEMText?
    public var certificateText: PEMText?
    public var keyText: PEMText?
    /// The name in the members' certificates, where it is not the host of the endpoint.
    public var serverName: String?
    public init(caFile: String? = nil, certificateFile: String? = nil, keyFile: String? = nil, serverName: String? = nil) {
      self.caFile = caFile
      self.certificateFile = certificateFile
      self.keyFile = keyFile
      self.serverName = serverName
    }
  }
  /// Not printed: it may be a private key.
  public struct PEMText: Hashable, Sendable, CustomStringConvertible, CustomDebugStringConvertible, CustomReflectable {
    public let text: String
    public init(_ text: String) { self.text = text }
    public var description: String { "PEM text" }
    public var debugDescription: String { description }
    public var customMirror: Mirror { Mirror(self, children: []) }
  }
  /// Not printed: an error message must not show the password.
  public struct Credentials: Hashable, Sendable, CustomStringConvertible, CustomDebugStringConvertible, CustomReflectable {
    public var user: String
    public var password: String
    public init(user: String, password: String) {
      self.user = user
      self.password = password
    }
    public var description: String { "user \(user)" }
    public var debugDescription: String { description }
    public var customMirror: Mirror { Mirror(self, children: ["user": user]) }
  }
  public struct Times: Hashable, Sendable {
    /// From the first packet to the first words of HTTP/2, with one endpoint. With several, each gets `dialOfMany`: the next is as good.
    public var dial = Duration.seconds(10)
    public var dialOfMany = Duration.seconds(3)
    /// One call, reaching for another endpoint included.
    public var call = Duration.seconds(10)
    /// Silence, while an answer or events are awaited, after which a PING asks whether anybody is there. etcd ends connections that ask
    /// more often than each 5 s.
    public var keepaliveAfter = Duration.seconds(6)
    /// Silence after the PING that ends the connection.
    public var keepaliveTimeout = Duration.seconds(4)
    public init() {}
  }
  public var endpoints: [EtcdEndpoint]
  /// Nil: plain TCP.
  public var tls: TLS?
  public var credentials: Credentials?
  public var times = Times()
  public init(endpoints: [EtcdEndpoint], tls: TLS? = nil, credentials: Credentials? = nil) {
    precondition(!endpoints.isEmpty, "a cluster has an endpoint")
    self.endpoints = endpoints
    self.tls = tls
    self.credentials = credentials
  }
  /// `etcd://HOST:PORT,…`, or `etcds://` with TLS: for messages; it never holds a secret.
  public var name: String { (tls == nil ? "etcd://" : "etcds://") + endpoints.map(\.description).joined(separator: ",") }
}
