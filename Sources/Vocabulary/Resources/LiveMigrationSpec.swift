/// A workload on its way from one host to another while it runs.

public struct LiveMigrationSpec: Hashable, Sendable {
  /// A virtual machine or pod; its endpoint too, where each interface moves by itself.
  public struct Identity: Hashable, Sendable {
    /// Not looked at for `k8s`, where the workload's name says enough.
    public var hostname: String = ""
    /// `openstack`, `k8s`, …
    public var orchestratorID: String = ""
    public var workloadID: String = ""
    /// Empty for a workload as a whole.
    public var endpointID: String = ""
    public init() {}
  }
  public enum Source: Hashable, Sendable {
    case workload(Identity)
    case workloadEndpoint(Identity)
  }
  public enum Target: Hashable, Sendable {
    /// Selector text.
    case selector(String)
    case workloadEndpoint(Identity)
  }
  public var source: Source?
  public var target: Target?
  public init(source: Source? = nil, target: Target? = nil) {
    self.source = source
    self.target = target
  }
}
