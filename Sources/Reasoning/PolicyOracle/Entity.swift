/// Something with addresses and labels: a workload endpoint, a host endpoint or a network set.
import Addresses
import Resources
import Selectors

public struct Entity: Sendable {
  let resource: Resource
  package var object: Resource { resource }
  public var key: ResourceKey { resource.key }
  /// Own labels, then those inherited from profiles: the first profile that has a label wins, an own label wins over all.
  public let labels: [String: String]
  /// The profile that each inherited label comes from.
  public let origins: [String: String]
  public let nets: [IPPrefix]
  public private(set) var node = ""
  public private(set) var interfaceName = ""
  /// `namespace/pod`, or the qualified name.
  public private(set) var name: String
  public private(set) var namespace: String?
  public private(set) var profiles: [String] = []
  package private(set) var ports: [WorkloadEndpointSpec.NamedPort] = []

  init?(endpoint resource: Resource, _ profiles: [String: ProfileSpec]) {
    guard case .workloadEndpoint(let spec) = resource.spec else { return nil }
    self.resource = resource
    namespace = resource.key.namespace
    var own = resource.metadata.labels
    own["projectcalico.org/namespace"] = namespace
    if !spec.orchestrator.isEmpty { own["projectcalico.org/orchestrator"] = spec.orchestrator }
    if !spec.serviceAccountName.isEmpty { own["projectcalico.org/serviceaccount"] = spec.serviceAccountName }
    (labels, origins) = Self.inherit(own, spec.profiles, profiles)
    nets = spec.ipNetworks
    node = spec.node
    interfaceName = spec.interfaceName
    name = spec.pod.isEmpty ? resource.key.qualifiedName : "\(namespace ?? "")/\(spec.pod)"
    self.profiles = spec.profiles
    ports = spec.ports
  }

  /// `*` and what names no interface have the addresses that their writer expects, if any.
  init?(hostEndpoint resource: Resource, _ profiles: [String: ProfileSpec]) {
    guard case .hostEndpoint(let spec) = resource.spec else { return nil }
    self.resource = resource
    (labels, origins) = Self.inherit(resource.metadata.labels, spec.profiles, profiles)
    nets = spec.expectedIPs.map(\.hostPrefix)
    node = spec.node
    interfaceName = spec.interfaceName
    name = resource.metadata.name
    self.profiles = spec.profiles
    ports = spec.ports.map { WorkloadEndpointSpec.NamedPort(name: $0.name, protocol: $0.ipProtocol, port: $0.port) }
  }

  init?(networkSet resource: Resource, _ profiles: [String: ProfileSpec]) {
    self.resource = resource
    name = resource.key.qualifiedName
    switch resource.spec {
    case .networkSet(let spec):
      namespace = resource.key.namespace
      var own = resource.metadata.labels
      own["projectcalico.org/namespace"] = namespace
      (labels, origins) = Self.inherit(own, ["kns.\(namespace ?? "")"], profiles)
      nets = spec.nets
    case .globalNetworkSet(let spec):
      (labels, origins) = (resource.metadata.labels, [:])
      nets = spec.nets
    default: return nil
    }
  }

  private static func inherit(
    _ own: [String: String], _ parents: [String], _ profiles: [String: ProfileSpec]
  ) -> (labels: [String: String], origins: [String: String]) {
    var labels = own
    var origins: [String: String] = [:]
    for parent in parents {
      for (label, value) in profiles[parent]?.labelsToApply ?? [:] where labels[label] == nil {
        labels[label] = value
        origins[label] = parent
      }
    }
    return (labels, origins)
  }

  func holds(_ address: IPAddress) -> Bool { nets.contains { $0.contains(address) } }

  // MARK: Selectors. All texts here have been found readable by `fault`.

  static func fault(_ text: String?, _ field: String) -> String? {
    guard let text, !text.isEmpty else { return nil }
    do {
      _ = try Selector(parsing: text)
      return nil
    } catch {
      return "\(field) cannot be read: \(error)"
    }
  }

  func isSelected(by text: String) -> Bool {
    guard let selector = try? Selector(parsing: text) else { return false }
    return selector.matches { labels[$0] }
  }

  /// The labels of a service account come with its profile, as `pcsa.<label>`.
  func isSelected(byServiceAccountSelector text: String) -> Bool {
    guard let selector = try? Selector(parsing: text) else { return false }
    return selector.matches { labels["pcsa.\($0)"] }
  }

  /// The labels of a namespace come with its profile, as `pcns.<label>`. In a namespace selector all() means "in some namespace" and
  /// global()
  /// the opposite. A namespace selector made of label conditions alone looks at the labels only: `env != 'x'` holds for what has no
  /// namespace.
  func isSelected(byNamespaceSelector text: String) -> Bool {
    // A name that no label may have stands for "is in a namespace".
    let inNamespace = "./in-a-namespace"
    guard let canonical = try? Selector(parsing: text).canonical else { return false }
    var rewritten = ""
    var quote: Character?
    var rest = Substring(canonical)
    while let character = rest.first {
      if quote == nil, rest.hasPrefix("all()") {
        rewritten += "has(\(inNamespace))"
        rest = rest.dropFirst("all()".count)
        continue
      }
      if quote == nil, rest.hasPrefix("global()") {
        rewritten += "!has(\(inNamespace))"
        rest = rest.dropFirst("global()".count)
        continue
      }
      if character == quote {
        quote = nil
      } else if quote == nil, character == "\"" || character == "'" {
        quote = character
      }
      rewritten.append(character)
      rest = rest.dropFirst()
    }
    guard let selector = try? Selector(parsing: rewritten) else { return false }
    return selector.matches { $0 == inNamespace ? labels["projectcalico.org/namespace"] : labels["pcns.\($0)"] }
  }
}
