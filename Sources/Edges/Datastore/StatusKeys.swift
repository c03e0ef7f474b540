/// Where daemons report how they are: Calico's paths for Felix, which OpenStack's driver reads, and one of our own for BGP.
import Names
public import Resources

public struct StatusKeys: Hashable, Sendable {
  /// `/calico/felix/v2/<region>/host/<host>/…`
  public static let felixRoot = "/calico/felix/v2/"
  /// Beside Calico's paths and not below them: who watches those knows every key that may stand there.
  public static let bgpRoot = "/calico/margay/v1/bgp/"

  public let host: String
  private let base: String
  /// `region` is OpenStack's, without the prefix that it gets in the path.
  public init(region: String?, host: String) {
    self.host = host
    base = Self.felixRoot + (region.map { "region-\(KeyPart.escape($0))" } ?? "no-region") + "/host/\(KeyPart.escape(host))/"
  }

  /// Under a lease: its absence tells that the host is dead.
  public var status: String { base + "status" }
  /// The same, and it stays: when the host was heard of last.
  public var lastReported: String { base + "last_reported_status" }
  public var workloads: String { base + "workload/" }
  public static func bgp(host: String) -> String { bgpRoot + KeyPart.escape(host) }
  public static func bgpHost(path: String) -> String? {
    path.utf8.starts(with: bgpRoot.utf8) ? KeyPart.unescape(path.dropFirst(bgpRoot.count)) : nil
  }

  /// The key of one workload endpoint; nil for an object whose name no writer of ours or Calico's makes.
  public func endpoint(_ key: ResourceKey) -> String? {
    guard let name = try? WorkloadEndpointName(parsing: key.name) else { return nil }
    let workload = name.orchestrator == "libnetwork" ? name.workload : "\(key.namespace ?? "default")/\(name.workload)"
    return workloads + "\(KeyPart.escape(name.orchestrator))/\(KeyPart.escape(workload))/endpoint/\(KeyPart.escape(name.endpoint))"
  }

  /// What a key below `felixRoot` tells of.
  public enum Subject: Hashable, Sendable {
    case status(host: String)
    case lastReported(host: String)
    case endpoint(host: String, orchestrator: String, workload: String, endpoint: String)

    public var host: String {
      switch self {
      case .status(let host), .lastReported(let host), .endpoint(let host, _, _, _): host
      }
    }

    public init?(path: String) {
      guard path.utf8.starts(with: StatusKeys.felixRoot.utf8) else { return nil }
      let parts = path.utf8.dropFirst(StatusKeys.felixRoot.utf8.count).split(separator: UInt8(ascii: "/"), omittingEmptySubsequences: false)
        .map { KeyPart.unescape(String(Substring($0))) }
      guard parts.count >= 4, parts[1] == "host" else { return nil }
      switch (parts.count, parts[3]) {
      case (4, "status"): self = .status(host: parts[2])
      case (4, "last_reported_status"): self = .lastReported(host: parts[2])
      case (8, "workload") where parts[6] == "endpoint":
        self = .endpoint(host: parts[2], orchestrator: parts[4], workload: parts[5], endpoint: parts[7])
      default: return nil
      }
    }
  }
}
