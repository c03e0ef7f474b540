/// What the server needs of others, as protocols: the records of the datastore, the source of addresses, and word from Felix that an
/// endpoint is in the kernel. Tests put fakes in their places and make them fail at every step.

public import Addresses
public import Resources

/// An endpoint that the server has attached and Felix shall program.
public struct AttachedEndpoint: Hashable, Sendable {
  /// The WorkloadEndpoint object.
  public let key: ResourceKey
  /// Of the write that holds what is asked for: what Felix applied at this revision or later counts.
  public let resourceVersion: String
  public let interfaceName: String
  public let addresses: [IPAddress]

  public init(key: ResourceKey, resourceVersion: String, interfaceName: String, addresses: [IPAddress]) {
    self.key = key
    self.resourceVersion = resourceVersion
    self.interfaceName = interfaceName
    self.addresses = addresses
  }
}

/// Felix, as the server sees it. Both functions throw when `deadline` has passed or the endpoint cannot be programmed; they end early with
/// `CancellationError` when their task is cancelled.
public protocol EndpointReadiness: Sendable {
  /// Returns when the rules of the endpoint are in the kernel. Only then the server switches the host's interface on.
  func waitUntilProtected(_ endpoint: AttachedEndpoint, deadline: ContinuousClock.Instant) async throws
  /// Returns when rules, settings, routes and neighbours of the endpoint are in the kernel. Its interface is up by then.
  func waitUntilProgrammed(_ endpoint: AttachedEndpoint, deadline: ContinuousClock.Instant) async throws
}

/// Addresses asked for in one ADD.
public struct AddressRequest: Hashable, Sendable {
  /// `<network>.<containerID>`: everything under it is released together.
  public var handle: String
  public var node: String
  public var namespace: String
  public var families: [IPFamily]
  /// When not empty: exactly these.
  public var exact: [IPAddress]
  /// Names or CIDRs of pools, by family; none means any.
  public var pools: [IPFamily: [String]]
  /// Calico's attributes of an assignment: namespace, pod, node.
  public var attributes: [String: String]

  public init(
    handle: String, node: String, namespace: String, families: [IPFamily], exact: [IPAddress] = [], pools: [IPFamily: [String]] = [:],
    attributes: [String: String] = [:]
  ) {
    self.handle = handle
    self.node = node
    self.namespace = namespace
    self.families = families
    self.exact = exact
    self.pools = pools
    self.attributes = attributes
  }
}

/// Who hands out addresses.
public protocol AddressSource: Sendable {
  /// One address of each family, or `exact`; all of them or none. Throws with the reason when there is none to give. An exact address that
  /// another attachment of the same pod holds is shared with it: the pod is on its way from one host to another.
  func assign(_ request: AddressRequest) async throws -> [IPAddress]
  /// How long the prefix of the block is that an assigned address is in.
  func blockLength(of address: IPAddress) async throws -> UInt8
  /// What the handle holds now.
  func addresses(heldBy handle: String) async throws -> [IPAddress]
  /// Those of them that another attachment of the same pod holds as well.
  func addresses(sharedBy handle: String) async throws -> [IPAddress]
  /// Both at once.
  func holding(of handle: String) async throws -> (held: [IPAddress], shared: [IPAddress])
  /// Releases everything the handle holds; nothing is success. What is shared stays with the other holder.
  func release(handle: String) async throws
}

extension AddressSource {
  public func holding(of handle: String) async throws -> (held: [IPAddress], shared: [IPAddress]) {
    let held = try await addresses(heldBy: handle)
    return (held, held.isEmpty ? [] : try await addresses(sharedBy: handle))
  }
}

/// The objects that the server reads and writes.
public protocol EndpointRecords: Sendable {
  /// False while an operator has locked the datastore (ClusterInformation.datastoreReady).
  func isReady() async throws -> Bool
  func endpoint(_ key: ResourceKey) async throws -> Resource?
  /// Creates or replaces; returns what is stored, with its resource version.
  func put(_ endpoint: Resource) async throws -> Resource
  /// Deletes the object if `condition` holds for what is stored. A missing object is success.
  func delete(_ key: ResourceKey, if condition: @Sendable (Resource) -> Bool) async throws
  /// Creates the profile unless one of this name exists.
  func ensureProfile(_ profile: Resource) async throws
}
