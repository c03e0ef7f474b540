/// Kinds whose fields are kept as they stand.

public struct HostEndpointSpec: Hashable, Sendable {
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
