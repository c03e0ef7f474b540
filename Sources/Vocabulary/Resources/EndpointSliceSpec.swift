/// What answers for a Kubernetes service (EndpointSlice of discovery.k8s.io/v1): addresses and ports, a slice at a time.
import Addresses

public struct EndpointSliceSpec: Hashable, Sendable {
  public struct Endpoint: Hashable, Sendable {
    public var addresses: [IPAddress]
    /// `conditions.ready`; one that says nothing of it counts as ready, as Kubernetes has it.
    public var isReady: Bool
    public init(addresses: [IPAddress], isReady: Bool = true) {
      self.addresses = addresses
      self.isReady = isReady
    }
  }
  public struct Port: Hashable, Sendable {
    public var name: String
    public var ipProtocol: NetworkProtocol
    public var port: UInt16
    public init(name: String = "", protocol ipProtocol: NetworkProtocol = .tcp, port: UInt16) {
      self.name = name
      self.ipProtocol = ipProtocol
      self.port = port
    }
  }
  /// `IPv4`, `IPv6`, or `FQDN`, of which no packet can be told.
  public var addressType: String
  public var endpoints: [Endpoint]
  public var ports: [Port]
  public init(addressType: String = "IPv4", endpoints: [Endpoint] = [], ports: [Port] = []) {
    self.addressType = addressType
    self.endpoints = endpoints
    self.ports = ports
  }

  /// The label by which a slice names its service, in its own namespace.
  public static let serviceLabel = "kubernetes.io/service-name"
  public var readyAddresses: [IPAddress] { endpoints.filter(\.isReady).flatMap(\.addresses) }
}
