/// A host's own interface, so that policies can speak of it.
import Addresses

/// A port of an endpoint by the name that rules may use for it.
public struct EndpointPort: Hashable, Sendable {
  public var name: String
  public var ipProtocol: NetworkProtocol
  public var port: UInt16
  public init(name: String, protocol ipProtocol: NetworkProtocol, port: UInt16) {
    self.name = name
    self.ipProtocol = ipProtocol
    self.port = port
  }
}

public struct HostEndpointSpec: Hashable, Sendable {
  public var node: String = ""
  /// `*` means all of the host's interfaces. Empty: the interface that has one of `expectedIPs`.
  public var interfaceName: String = ""
  public var expectedIPs: [IPAddress] = []
  public var profiles: [String] = []
  public var ports: [EndpointPort] = []
  public init() {}
}
