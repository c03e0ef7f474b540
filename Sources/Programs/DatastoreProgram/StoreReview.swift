/// What is wrong in a datastore, and what that does: read before Margay starts on it for the first time, or at any other time. Changes nothing.
///
/// Reading is lenient, so most of what is wrong changes nothing about packets; what does, is said as effect, with the words of the calculation.
public import AddressPlans
public import Datastore
import Calculation
import Documents
public import JSON
import Names
import Resources

public struct StoreReview: Sendable {
  public enum Class: String, Hashable, Sendable, CaseIterable {
    /// It denies where it might have allowed, or a whole object has no effect.
    case unenforceable
    /// Records of addresses that do not agree with each other or with their use.
    case addresses
    /// It refers to what does not exist.
    case dangling
    /// Stored as it is and enforced as it is; Calico's rules do not allow it, and the next write must correct it.
    case invalid
    /// Read by nobody.
    case stray
  }
  public struct Finding: Hashable, Sendable {
    /// `NetworkPolicy shop/web`, or a key.
    public var object: String
    public var key: String
    public var `class`: Class
    public var faults: [String]
    public var effect: String
  }

  public private(set) var findings: [Finding] = []
  /// How many there are of each kind and of each group of other keys.
  public private(set) var counts: [(name: String, count: Int)] = []
  public let keyCount: Int
  public let revision: Revision
  /// Where the datastore is half filled: from where.
  public private(set) var unfinishedTransfer: String?

  private var documents: [ResourceKey: JSONValue] = [:]
  private var resources: [ResourceKey: Resource] = [:]

  public init(_ items: [KeyValue], revision: Revision) {
    keyCount = items.count
    self.revision = revision
    var byKind: [Kind: Int] = [:]
    var byGroup: [String: Int] = [:]
    for item in items {
      if item.key == TransferMarker.path {
        unfinishedTransfer = (try? JSONValue(parsing: item.value))?["source"]?.string ?? "somewhere"
      }
      switch KeyLayout.place(item.key) {
      case .object(let key):
        byKind[key.kind, default: 0] += 1
        review(item, key)
      case .known(let name): byGroup[name, default: 0] += 1
      case .strayObject:
        add(item.key, item.key, .stray, ["is below the API's objects, but of no kind or form that exists"], "nothing reads it; backup and migrate carry it along")
      case .unknown:
        add(item.key, item.key, .stray, ["is outside of the layout that Calico and Margay know"], "nothing reads it; backup and migrate carry it along")
      }
    }
    for key in resources.keys.sorted() { reviewReferences(key, resources[key]!) }
    sort()
    counts = byKind.sorted { $0.key < $1.key }.map { ($0.key.rawValue, $0.value) } + byGroup.sorted { $0.key < $1.key }.map { ($0.key, $0.value) }
    documents = [:]
    resources = [:]
  }

  private mutating func sort() {
    let order = Class.allCases
    findings.sort { a, b in
      (order.firstIndex(of: a.class)!, a.object, a.key) < (order.firstIndex(of: b.class)!, b.object, b.key)
    }
  }

  private mutating func add(_ object: String, _ key: String, _ kind: Class, _ faults: [String], _ effect: String) {
    findings.append(Finding(object: object, key: key, class: kind, faults: faults, effect: effect))
  }

  // MARK: One object

  private mutating func review(_ item: KeyValue, _ key: ResourceKey) {
    let document: JSONValue
    do throws(JSONError) {
      document = try JSONValue(parsing: item.value)
    } catch {
      return add("\(key)", item.key, .unenforceable, ["its value is no JSON: \(error)"], Self.effect(ofUnreadable: key))
    }
    let resource: Resource
    let lenient: [DocumentError]
    do throws(DocumentError) {
      (resource, lenient) = try ResourceCodec.decodeReporting(kind: key.kind, value: document)
    } catch {
      return add("\(key)", item.key, .unenforceable, [error.message], Self.effect(ofUnreadable: key))
    }
    resources[key] = resource
    documents[key] = document
    var faults = lenient.map(\.message)
    let strict = ResourceCodec.review(PositionedDocument(file: item.key, value: document), defaultNamespace: key.namespace ?? "default").errors
    faults += strict.map(\.message).filter { !faults.contains($0) }
    if resource.metadata.name != key.name || (key.namespace ?? resource.metadata.namespace) != resource.metadata.namespace {
      let said = (resource.metadata.namespace.map { "\($0)/" } ?? "") + resource.metadata.name
      faults.append("calls itself \(said), and its key says \(key.qualifiedName); the key counts")
    }
    // The calculation's own reason is told where no fault of the document says the same.
    let effects = Self.effects(of: resource, key, withReason: faults.isEmpty)
    if !effects.isEmpty {
      add("\(key)", item.key, .unenforceable, faults, effects.joined(separator: "; "))
    } else if !lenient.isEmpty {
      add("\(key)", item.key, .unenforceable, faults, Self.effect(ofUnreadPartsOf: key.kind))
    } else if !faults.isEmpty {
      add("\(key)", item.key, .invalid, faults, "in force as it is stored; the next change of it must correct this")
    }
  }

  /// Decision 6 of the design, by kind of policy.
  private static func effects(of resource: Resource, _ key: ResourceKey, withReason: Bool) -> [String] {
    func words(_ faults: [EnforcementFault], _ place: String, _ selector: String) -> [String] {
      faults.map { fault in
        switch fault {
        case .rule(let direction, let index, let isLog, let reason):
          let rule = "\(direction.rawValue.lowercased()) rule \(index + 1)"
          return (isLog ? "\(rule) logs nothing" : "\(rule) denies everything at its place in \(place)") + (withReason ? " (\(reason))" : "")
        case .selector(let reason): return selector + (withReason ? " (\(reason))" : "")
        }
      }
    }
    switch resource.spec {
    case .networkPolicy(let policy):
      return words(
        policy.enforcementFaults(inNamespace: key.namespace), "tier \(policy.tier)",
        "it denies every endpoint of namespace \(key.namespace ?? ""), in the directions that it governs")
    case .globalNetworkPolicy(let policy):
      return words(policy.enforcementFaults(inNamespace: nil), "tier \(policy.tier)", "it has no effect: it allows nothing and denies nothing")
    case .profile(let profile): return words(profile.enforcementFaults, "the profile", "")
    default: return []
    }
  }

  private static func effect(ofUnreadable key: ResourceKey) -> String {
    switch key.kind {
    case .networkPolicy: "it denies every endpoint of namespace \(key.namespace ?? ""), both ways, first in its tier"
    case .globalNetworkPolicy: "it has no effect: it allows nothing and denies nothing"
    case .stagedGlobalNetworkPolicy, .stagedKubernetesNetworkPolicy, .stagedNetworkPolicy: "none on packets: it is staged"
    case .profile: "endpoints that name it are denied what no policy allows them"
    case .tier: "policies in it come last, after all tiers that can be read"
    case .workloadEndpoint: "it gets no traffic: no interface is opened for it"
    case .hostEndpoint: "none of its policies is enforced on its interface; failsafe ports and routing are not touched"
    case .ipPool: "no address is given from it, and its blocks belong to no pool"
    case .ipReservation: "the addresses that it reserves may be given"
    case .kubernetesEndpointSlice: "rules that name its service do not match its addresses"
    case .networkSet, .globalNetworkSet: "rules that select it do not match its networks"
    case .node: "no BGP session and no route comes from it"
    case .bgpPeer: "no session comes from it"
    case .bgpFilter: "peers that name it exchange routes without it"
    case .bgpConfiguration, .felixConfiguration, .ipamConfiguration, .kubeControllersConfiguration: "the defaults are in force"
    case .clusterInformation: "no workload is attached: the datastore does not count as ready"
    case .blockAffinity, .calicoNodeStatus, .liveMigration: "it is as if it did not exist"
    }
  }

  private static func effect(ofUnreadPartsOf kind: Kind) -> String {
    switch kind {
    case .workloadEndpoint: "what cannot be read of it is left out: addresses that are not listed get no traffic"
    case .ipPool: "what cannot be read counts as not set; a node selector that cannot be read selects no node"
    case .networkSet, .globalNetworkSet: "rules that select it do not match what cannot be read"
    case .stagedGlobalNetworkPolicy, .stagedKubernetesNetworkPolicy, .stagedNetworkPolicy: "none on packets: it is staged"
    default: "what cannot be read counts as not set"
    }
  }

  // MARK: References

  private mutating func reviewReferences(_ key: ResourceKey, _ resource: Resource) {
    func exists(_ kind: Kind, _ name: String) -> Bool { resources[ResourceKey(kind, name: name)] != nil }
    var missing: [(fault: String, effect: String)] = []
    func profiles(_ names: [String], _ path: String) {
      for name in names where name != "projectcalico-default-allow" && !exists(.profile, name) {
        missing.append(("\(path): Profile \(name) does not exist", "what no policy decides is denied where it would have been asked"))
      }
    }
    func tier(_ name: String) {
      if ResourceStore.fixedTiers[name] == nil, !exists(.tier, name) {
        missing.append(("spec.tier: Tier \(name) does not exist", "the policy counts as one of a last tier that denies at its end"))
      }
    }
    switch resource.spec {
    case .networkPolicy(let policy), .globalNetworkPolicy(let policy): tier(policy.tier)
    case .workloadEndpoint(let endpoint): profiles(endpoint.profiles, "spec.profiles")
    case .hostEndpoint(let endpoint): profiles(endpoint.profiles, "spec.profiles")
    case .bgpPeer:
      for name in documents[key]?["spec"]?["filters"]?.array?.compactMap(\.string) ?? [] where !exists(.bgpFilter, name) {
        missing.append(("spec.filters: BGPFilter \(name) does not exist", "the peer exchanges routes without it"))
      }
    default: break
    }
    guard !missing.isEmpty else { return }
    var effects: [String] = []
    for effect in missing.map(\.effect) where !effects.contains(effect) { effects.append(effect) }
    add("\(key)", key.path, .dangling, missing.map(\.fault), effects.joined(separator: "; "))
  }

  // MARK: Addresses

  /// The sum of what `margay ipam check` finds.
  public mutating func add(_ addresses: AddressFindings) {
    func add(_ what: String, _ items: [String], _ effect: String) {
      guard let first = items.first else { return }
      let count = items.count == 1 ? first : "\(items.count), \(first) among them"
      self.add("IPAM: \(what)", "", .addresses, [count], "\(effect); `margay ipam check` has all")
    }
    add("addresses that two workloads use", addresses.contested.map { "\($0.address) (\($0.users.joined(separator: ", ")))" }, "each takes the other's traffic")
    add("addresses in use that are recorded as free", addresses.unassigned.map { "\($0.address) (\($0.users.joined(separator: ", ")))" }, "they may be given once more")
    add("blocks that overlap", addresses.overlappingBlocks.map { "\($0.0) and \($0.1)" }, "an address may be given twice")
    add("blocks that cannot be read", addresses.unreadable.map { "\($0.key): \($0.why)" }, "no address is given or taken back there")
    add("addresses of workloads that are gone", addresses.leaked.map { "\($0.address)" }, "they are given to nobody until they are released")
    add("handles that count wrong", addresses.miscounted.map { "\($0.handle) in \($0.block)" }, "some of their addresses may stay when they are released")
    add("blocks in no pool", addresses.blocksOutsidePools.map { "\($0)" }, "no new address is given from them")
    add("affinities without their blocks, or blocks without", addresses.affinities.map { "\($0.block): \($0.problem)" }, "the node claims another block instead")
    sort()
  }

  // MARK: For programs

  public var json: JSONValue {
    [
      "keys": .integer(Int64(keyCount)), "revision": .integer(revision.rawValue),
      "counts": .object(JSONObject(counts.map { JSONObject.Member($0.name, .integer(Int64($0.count))) })),
      "unfinishedTransfer": unfinishedTransfer.map(JSONValue.string) ?? .null,
      "findings": .array(
        findings.map { finding in
          [
            "object": .string(finding.object), "key": .string(finding.key), "class": .string(finding.class.rawValue),
            "faults": .array(finding.faults.map(JSONValue.string)), "effect": .string(finding.effect),
          ]
        }),
    ]
  }
}
