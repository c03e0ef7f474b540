/// Kinds whose fields are kept as they stand.

public struct BGPFilterSpec: Hashable, Sendable {
  public init() {}
}

public struct BlockAffinitySpec: Hashable, Sendable {
  public init() {}
}

public struct CalicoNodeStatusSpec: Hashable, Sendable {
  public init() {}
}

public struct HostEndpointSpec: Hashable, Sendable {
  public init() {}
}

public struct IPAMConfigurationSpec: Hashable, Sendable {
  public init() {}
}

public struct IPReservationSpec: Hashable, Sendable {
  public init() {}
}

public struct KubeControllersConfigurationSpec: Hashable, Sendable {
  public init() {}
}

public struct LiveMigrationSpec: Hashable, Sendable {
  public init() {}
}

public struct StagedPolicySpec: Hashable, Sendable {
  public init() {}
}

public struct StagedKubernetesPolicySpec: Hashable, Sendable {
  public init() {}
}
