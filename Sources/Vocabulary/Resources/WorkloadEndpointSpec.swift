/// A workload's network interface, as the orchestrator's plugin describes it.
import Addresses

public struct WorkloadEndpointSpec: Hashable, Sendable {
  public struct NamedPort: Hashable, Sendable {
    public var name: String
    public var ipProtocol: NetworkProtocol
    public var port: UInt16
    /// Where the host forwards to this port from, if it does.
    public var hostPort: UInt16?
    /// Nil: every address of the host.
    public var hostIP: IPAddress?
    public init(name: String, protocol ipProtocol: NetworkProtocol, port: UInt16, hostPort: UInt16? = nil, hostIP: IPAddress? = nil) {
      self.name = name
      self.ipProtocol = ipProtocol
      self.port = port
      self.hostPort = hostPort
      self.hostIP = hostIP
    }
  }
  /// A floating address: what is sent to `externalIP` arrives at `internalIP`.
  public struct IPNAT: Hashable, Sendable {
    /// One of the endpoint's own addresses.
    public var internalIP: IPAddress
    public var externalIP: IPAddress
    public init(internalIP: IPAddress, externalIP: IPAddress) {
      self.internalIP = internalIP
      self.externalIP = externalIP
    }
  }
  /// `k8s`, `cni`, `openstack`, …
  public var orchestrator: String = ""
  public var workload: String = ""
  public var node: String = ""
  public var containerID: String = ""
  public var pod: String = ""
  /// The interface's name inside the workload, for example `eth0`.
  public var endpoint: String = ""
  public var serviceAccountName: String = ""
  /// Host prefixes only (/32 and /128).
  public var ipNetworks: [IPPrefix] = []
  public var ipv4Gateway: IPAddress?
  public var ipv6Gateway: IPAddress?
  public var profiles: [String] = []
  /// The interface's name on the host, for example `cali0123456789a`.
  public var interfaceName: String = ""
  public var mac: MACAddress?
  public var ports: [NamedPort] = []
  public var allowSpoofedSourcePrefixes: [IPPrefix] = []
  public var ipNATs: [IPNAT] = []
  public var qosControls: QoSControls?
  /// What OpenStack's driver writes beside `ipNetworks`, which holds the same addresses already.
  public var allowedIPs: [IPPrefix] = []
  public init() {}
}

/// How much an endpoint may send and receive, and how its packets are marked.
public struct QoSControls: Hashable, Sendable {
  public enum Limit: String, Hashable, Sendable, CaseIterable {
    case ingressBandwidth, egressBandwidth
    case ingressBurst, egressBurst
    case ingressPeakrate, egressPeakrate
    case ingressMinburst, egressMinburst
    case ingressPacketRate, egressPacketRate
    case ingressPacketBurst, egressPacketBurst
    case ingressMaxConnections, egressMaxConnections

    public var unit: String {
      switch self {
      case .ingressBandwidth, .egressBandwidth, .ingressPeakrate, .egressPeakrate: "bits per second"
      case .ingressBurst, .egressBurst: "bits"
      case .ingressMinburst, .egressMinburst: "bytes"
      case .ingressPacketRate, .egressPacketRate: "packets per second"
      case .ingressPacketBurst, .egressPacketBurst: "packets"
      case .ingressMaxConnections, .egressMaxConnections: "connections"
      }
    }
    public var range: ClosedRange<Int64> {
      switch self {
      case .ingressBandwidth, .egressBandwidth: 1_000...1_000_000_000_000_000
      case .ingressPeakrate, .egressPeakrate: 1_010...1_010_000_000_000_000
      // The kernel counts a bucket in 32 bits of bytes.
      case .ingressBurst, .egressBurst: 1_000...34_359_738_360
      case .ingressMinburst, .egressMinburst: 1_000...100_000_000
      case .ingressPacketRate, .egressPacketRate, .ingressPacketBurst, .egressPacketBurst: 1...10_000
      case .ingressMaxConnections, .egressMaxConnections: 1...4_294_967_295
      }
    }
    /// The limit without which this one means nothing.
    public var needs: Limit? {
      switch self {
      case .ingressBurst, .ingressPeakrate: .ingressBandwidth
      case .egressBurst, .egressPeakrate: .egressBandwidth
      case .ingressMinburst: .ingressPeakrate
      case .egressMinburst: .egressPeakrate
      case .ingressPacketBurst: .ingressPacketRate
      case .egressPacketBurst: .egressPacketRate
      default: nil
      }
    }
  }
  /// Absent limits do not limit.
  public var limits: [Limit: Int64] = [:]
  public var dscp: DSCP?
  public init() {}
}

/// A differentiated services code point (RFC 2474): 0 to 63, or a name that RFC 2474, RFC 2597 or RFC 3246 gives it.
public struct DSCP: Hashable, Sendable, CustomStringConvertible {
  public let value: UInt8
  /// As written: a name stays a name.
  public let description: String
  public init?(_ text: String) {
    let name = text.uppercased()
    if let known = Self.names.first(where: { $0.name == name }) {
      (value, description) = (known.value, known.name)
    } else if let number = UInt8(text), number < 64 {
      (value, description) = (number, "\(number)")
    } else {
      return nil
    }
  }
  public static let names: [(name: String, value: UInt8)] =
    [("DF", 0), ("EF", 46)] + (0..<8).map { ("CS\($0)", UInt8($0 * 8)) }
    + (1...4).flatMap { level in (1...3).map { drop in ("AF\(level)\(drop)", UInt8(level * 8 + drop * 2)) } }
}
