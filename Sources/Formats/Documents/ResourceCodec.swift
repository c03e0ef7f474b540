/// Documents to resources and back.
///
/// Writing is strict: `decodeStrict` collects everything that is wrong, with its place. Reading is lenient: what is stored was accepted by
/// somebody, so `decodeLenient` takes all it can understand, and a rule that it cannot enforce becomes a deny at its own place.
import JSON
import Names
import Resources

public enum ResourceCodec {
  public static let apiVersion = "projectcalico.org/v3"

  /// What a strict reading found. `resource` is nil if there are errors; warnings tell of fields that are kept but have no effect.
  public struct Review: Sendable {
    public var resource: Resource?
    public var errors: [DocumentError]
    public var warnings: [DocumentError]
  }

  /// The resource of a document that somebody wants to store, or everything that is wrong with it.
  public static func decodeStrict(
    _ document: PositionedDocument, defaultNamespace: String = "default"
  ) -> Result<Resource, DocumentErrors> {
    let review = review(document, defaultNamespace: defaultNamespace)
    return if let resource = review.resource { .success(resource) } else { .failure(DocumentErrors(review.errors)) }
  }

  /// Like `decodeStrict`, with the warnings.
  public static func review(_ document: PositionedDocument, defaultNamespace: String = "default") -> Review {
    review(document, Findings(isStrict: true, document: document), defaultNamespace)
  }

  /// Like `review`, with the fields that its readers know.
  package static func reviewTracing(_ document: PositionedDocument) -> (review: Review, trace: FieldTrace) {
    let findings = Findings(isStrict: true, document: document, traces: true)
    return (review(document, findings, "default"), findings.trace!)
  }

  private static func review(_ document: PositionedDocument, _ findings: Findings, _ defaultNamespace: String) -> Review {
    let resource = decodeAll(document, findings, defaultNamespace)
    let errors = findings.errors.sorted { ($0.position ?? .start) < ($1.position ?? .start) }
    return Review(resource: errors.isEmpty ? resource : nil, errors: errors, warnings: findings.warnings)
  }

  /// The resource of a stored value. Throws only if the value is no object of this kind at all.
  public static func decodeLenient(kind: Kind, value: JSONValue) throws(DocumentError) -> Resource {
    try decodeReporting(kind: kind, value: value).resource
  }

  /// Like `decodeLenient`, with everything that could not be read.
  public static func decodeReporting(kind: Kind, value: JSONValue) throws(DocumentError) -> (resource: Resource, faults: [DocumentError]) {
    guard let object = value.object else {
      throw DocumentError(path: JSONPath(), value: value, rule: "is not an object of kind \(kind.rawValue)")
    }
    // Kubernetes calls its own slices by their own name.
    if let word = object["kind"]?.string, word != kind.rawValue, !(kind == .kubernetesEndpointSlice && word == "EndpointSlice") {
      throw DocumentError(path: "kind", value: .string(word), rule: "is not \(kind.rawValue)")
    }
    let findings = Findings(isStrict: false)
    let reader = FieldReader(object, JSONPath(), findings)
    let metadata = reader.reader("metadata")?.metadata()
    guard let metadata, !metadata.name.isEmpty else {
      throw DocumentError(path: "metadata.name", rule: "is missing: the object of kind \(kind.rawValue) has no name")
    }
    let spec = kind.isFlat ? reader : FieldReader(reader.reader("spec")?.object ?? JSONObject(), "spec", findings)
    guard let decoded = spec.spec(of: kind) else {
      throw findings.errors.first ?? DocumentError(path: "spec", rule: "is not that of kind \(kind.rawValue)")
    }
    return (Resource(metadata, decoded, status: reader.status(of: kind)), findings.errors)
  }

  private static func decodeAll(_ document: PositionedDocument, _ findings: Findings, _ defaultNamespace: String) -> Resource? {
    guard let object = document.value.object else {
      findings.error(document.root, document.value, "is not an object with apiVersion, kind, metadata and spec")
      return nil
    }
    let reader = FieldReader(object, document.root, findings)
    if let version = reader.string("apiVersion") {
      if version != apiVersion {
        findings.error(reader.path("apiVersion"), .string(version), "is not the API of this object", fix: "write \(apiVersion)")
      }
    } else if reader.value("apiVersion") == nil {
      findings.error(document.root, nil, "has no apiVersion", fix: "add apiVersion: \(apiVersion)")
    }
    guard let word = reader.string("kind") else {
      if reader.value("kind") == nil {
        findings.error(document.root, nil, "has no kind", fix: "add one, such as kind: NetworkPolicy")
        reader.finish(hints: ["metadata", "spec", "status"])
      }
      return nil
    }
    guard let kind = Kind(rawValue: word) else {
      let known = Kind.allCases.map(\.rawValue)
      findings.error(
        reader.path("kind"), .string(word), "is not a kind that exists",
        fix: nearest(word, among: known).map { "did you mean \($0)?" } ?? "known: \(known.joined(separator: ", "))")
      return nil
    }
    var metadata = Metadata(name: "")
    if let metadataReader = reader.reader("metadata") {
      metadata = metadataReader.metadata()
      metadataReader.check(&metadata, of: kind, defaultNamespace)
    } else if reader.value("metadata") == nil {
      findings.error(document.root, nil, "has no metadata", fix: "add metadata with a name")
    }
    // An absent spec reads as an empty one: some kinds need nothing in it, the others say what is missing.
    let specReader = kind.isFlat ? reader : FieldReader(reader.reader("spec")?.object ?? JSONObject(), reader.path("spec"), findings)
    let spec = specReader.spec(of: kind)
    let status = reader.status(of: kind)
    reader.finish(hints: ["status"])
    guard let spec else { return nil }
    let resource = Resource(metadata, spec, status: status)
    if case .workloadEndpoint(let endpoint) = spec { reader.checkName(of: endpoint, metadata.name) }
    if case .tier(let tier) = spec { reader.checkFixed(tier, metadata.name) }
    if let reason = inertKinds[kind] { findings.warning(reader.path("kind"), .string(word), "is kept, but has no effect yet: \(reason)") }
    return resource
  }
}

extension ResourceCodec {
  /// Kinds whose objects are typed, checked and stored, while nothing acts upon them.
  static let inertKinds: [Kind: String] = [
    .bgpFilter: "BGP accepts and announces what its own rules say",
    .calicoNodeStatus: "nodes tell their state under Calico's status keys and over HTTP",
    .liveMigration: "a workload's routes move when its endpoint does",
  ]
}

extension JSONPosition {
  static let start = JSONPosition(line: 1, column: 1)
}

extension FieldReader {
  /// The name of a workload endpoint follows from its fields.
  func checkName(of endpoint: WorkloadEndpointSpec, _ name: String) {
    let workload =
      switch endpoint.orchestrator {
      case "k8s": endpoint.pod
      case "cni": endpoint.containerID
      default: endpoint.workload
      }
    let specPath = path("spec")
    do throws(WorkloadEndpointName.Fault) {
      let expected = try WorkloadEndpointName(
        node: endpoint.node, orchestrator: endpoint.orchestrator, workload: workload, endpoint: endpoint.endpoint)
      if expected.description != name, !name.isEmpty {
        findings.error(
          path("metadata").member("name"), .string(name), "is not the name that node, orchestrator, workload and endpoint give",
          fix: "write \(expected)")
      }
    } catch {
      if !endpoint.node.isEmpty, !endpoint.orchestrator.isEmpty, !endpoint.endpoint.isEmpty {
        findings.error(specPath, nil, "gives the endpoint no name: \(error)")
      }
    }
  }

  func spec(of kind: Kind) -> Resource.Spec? {
    switch kind {
    case .bgpConfiguration: .bgpConfiguration(bgpConfigurationSpec())
    case .bgpFilter: .bgpFilter(bgpFilterSpec())
    case .bgpPeer: .bgpPeer(bgpPeerSpec())
    case .blockAffinity: blockAffinitySpec().map { .blockAffinity($0) }
    case .calicoNodeStatus: calicoNodeStatusSpec().map { .calicoNodeStatus($0) }
    case .clusterInformation: .clusterInformation(clusterInformationSpec())
    case .felixConfiguration: .felixConfiguration(felixConfigurationSpec())
    case .globalNetworkPolicy: .globalNetworkPolicy(policySpec(isGlobal: true))
    case .globalNetworkSet: .globalNetworkSet(networkSetSpec())
    case .hostEndpoint: .hostEndpoint(hostEndpointSpec())
    case .ipamConfiguration: .ipamConfiguration(ipamConfigurationSpec())
    case .ipPool: ipPoolSpec().map { .ipPool($0) }
    case .ipReservation: .ipReservation(ipReservationSpec())
    case .kubeControllersConfiguration: .kubeControllersConfiguration(kubeControllersConfigurationSpec())
    case .kubernetesEndpointSlice: .kubernetesEndpointSlice(endpointSliceSpec())
    case .liveMigration: .liveMigration(liveMigrationSpec())
    case .networkPolicy: .networkPolicy(policySpec(isGlobal: false))
    case .networkSet: .networkSet(networkSetSpec())
    case .node: .node(nodeSpec())
    case .profile: .profile(profileSpec())
    case .stagedGlobalNetworkPolicy: .stagedGlobalNetworkPolicy(stagedPolicySpec(isGlobal: true))
    case .stagedKubernetesNetworkPolicy: .stagedKubernetesNetworkPolicy(stagedKubernetesPolicySpec())
    case .stagedNetworkPolicy: .stagedNetworkPolicy(stagedPolicySpec(isGlobal: false))
    case .tier: .tier(tierSpec())
    case .workloadEndpoint: .workloadEndpoint(workloadEndpointSpec())
    }
  }
}
