/// A workload's network interface, as the orchestrator's plugin describes it.
import Addresses

public struct WorkloadEndpointSpec: Hashable, Sendable {
  public struct NamedPort: Hashable, Sendable {
    public var name: String
    public var ipProtocol: NetworkProtocol
    public var port: UInt16
    public init(name: String, protocol ipProtocol: NetworkProtocol, port: UInt16) {
      self.name = name
      self.ipProtocol = ipProtocol
      self.port = port
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
  public init() {}
}
