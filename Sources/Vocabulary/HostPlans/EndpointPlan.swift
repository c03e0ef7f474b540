/// Endpoints of this host and the policies that apply to them.
import Addresses
import Resources

/// A staged policy that would be asked, were it enforced; it decides nothing.
public struct StagedPlace: Hashable, Sendable {
  public var policy: ResourceKey
  /// How many of the tier's enforced policies are asked before it.
  public var index: Int
  public init(_ policy: ResourceKey, index: Int) {
    self.policy = policy
    self.index = index
  }
}

/// The policies of one tier that apply to one endpoint in one direction, in order. Empty only where all of them are staged.
public struct TierPlan: Hashable, Sendable {
  public var name: String
  public var policies: [ResourceKey]
  /// What happens to a packet that no policy of the tier decided. Pass where all policies are staged: such a tier decides nothing.
  public var defaultAction: TierSpec.DefaultAction
  /// In order.
  public var staged: [StagedPlace] = []
  /// Of a tier whose policies are all staged: its end would deny what they do not decide.
  public var wouldDeny = false
  public init(name: String, policies: [ResourceKey], defaultAction: TierSpec.DefaultAction = .deny) {
    self.name = name
    self.policies = policies
    self.defaultAction = defaultAction
  }
}

/// One local workload endpoint.
public struct EndpointPlan: Hashable, Sendable {
  public var interfaceName: String
  public var mac: MACAddress?
  public var addresses: [IPAddress]
  /// Extra source prefixes that this endpoint may send from.
  public var allowedSources: [IPPrefix] = []
  public var ingress: [TierPlan]
  public var egress: [TierPlan]
  /// Names of profiles, consulted in order when no tier decided. A name without a profile denies.
  public var profiles: [String]
  /// Floating addresses in effect: what is sent to the key arrives at the value, an address of the endpoint. A key leads to one endpoint.
  public var floating: [IPAddress: IPAddress] = [:]
  /// Limits and marks; nil where there are none.
  public var qos: QoSControls?
  /// An instance of OpenStack is served by its host: DHCP, names, metadata.
  public var isOpenStack = false
  public init(
    interfaceName: String, mac: MACAddress? = nil, addresses: [IPAddress] = [], ingress: [TierPlan] = [], egress: [TierPlan] = [],
    profiles: [String] = []
  ) {
    self.interfaceName = interfaceName
    self.mac = mac
    self.addresses = addresses
    self.ingress = ingress
    self.egress = egress
    self.profiles = profiles
  }
}

/// The tiers that decide about an endpoint's packets of one kind, by direction.
public struct TierLists: Hashable, Sendable {
  public var ingress: [TierPlan]
  public var egress: [TierPlan]
  public init(ingress: [TierPlan] = [], egress: [TierPlan] = []) {
    self.ingress = ingress
    self.egress = egress
  }
  public var isEmpty: Bool { ingress.isEmpty && egress.isEmpty }
  public subscript(direction: Direction) -> [TierPlan] { direction == .ingress ? ingress : egress }
}

/// One host endpoint of this host. Which interface it means is decided beside the kernel, where interfaces and their addresses are known.
public struct HostEndpointPlan: Hashable, Sendable {
  /// `*` is every interface without an endpoint of its own; empty: the interface that has one of `expectedAddresses`.
  public var interfaceName: String
  public var expectedAddresses: [IPAddress]
  /// The host's own traffic: input and output.
  public var normal: TierLists
  /// What the host forwards, workloads' traffic included: policies with `applyOnForward`.
  public var forward: TierLists
  /// `doNotTrack`: before connection tracking; these have no end of tier and no profiles.
  public var untracked: TierLists
  /// `preDNAT`: before destinations are translated; ingress only, without end of tier and profiles.
  public var preDNAT: TierLists
  public var profiles: [String]
  public init(interfaceName: String = "", expectedAddresses: [IPAddress] = []) {
    self.interfaceName = interfaceName
    self.expectedAddresses = expectedAddresses
    (normal, forward, untracked, preDNAT, profiles) = (TierLists(), TierLists(), TierLists(), TierLists(), [])
  }
}
