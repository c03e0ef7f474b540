/// What the datastore says of one node's settings: which FelixConfigurations are for it, and in which order.
public import Resources
import Selectors

public struct StoredSettings: Hashable, Sendable {
  struct Configuration: Hashable {
    var spec: FelixConfigurationSpec
    /// RFC 3339, UTC; empty if it does not say.
    var created: String
  }
  public let node: String
  private var configurations: [String: Configuration] = [:]
  /// Of the node's object.
  private var labels: [String: String] = [:]
  public init(node: String) { self.node = node }

  /// Takes a FelixConfiguration, or this node's object; nil: it is gone. Others are passed over. True if something changed.
  @discardableResult
  public mutating func note(_ key: ResourceKey, _ resource: Resource?) -> Bool {
    let before = self
    switch key.kind {
    case .felixConfiguration:
      if case .felixConfiguration(let spec)? = resource?.spec {
        configurations[key.name] = Configuration(spec: spec, created: resource?.metadata.creationTimestamp ?? "")
      } else {
        configurations[key.name] = nil
      }
    case .node where key.name == node: labels = resource?.metadata.labels ?? [:]
    default: return false
    }
    return self != before
  }

  /// Weakest first, and what is wrong, by the name of the configuration.
  func layers() -> (layers: [SettingsLayer], findings: [String: [String]]) {
    var findings: [String: [String]] = [:]
    func layer(_ source: SettingsSource, _ configuration: Configuration) -> SettingsLayer {
      var values = configuration.spec.values
      values["nodeSelector"] = nil
      let faults = configuration.spec.faults.sorted { $0.key < $1.key }
      return SettingsLayer(source, values, faults: faults.map { .init(field: $0.key, name: $0.key, reason: $0.value) })
    }
    var selected: [(name: String, configuration: Configuration)] = []
    for (name, configuration) in configurations {
      let selector = configuration.spec.text("nodeSelector")
      if name == "default" || name.hasPrefix("node.") {
        if selector != nil, name == "default" || name == "node.\(node)" {
          findings[name, default: []].append("nodeSelector has no effect here: the name says where it holds")
        }
      } else if configuration.spec.faults["nodeSelector"] != nil {
        findings[name, default: []].append("it holds for no node, since its nodeSelector cannot be read")
      } else if let selector {
        // Reading has checked it.
        if let selector = try? Selector(parsing: selector), selector.matches(labels) { selected.append((name, configuration)) }
      } else {
        findings[name, default: []].append("it holds for no node: its name is neither default nor node.NAME, and it has no nodeSelector")
      }
    }
    // The oldest comes last, so that it counts.
    selected.sort { ($0.configuration.created, $0.name) > ($1.configuration.created, $1.name) }
    for (index, younger) in selected.enumerated() {
      for (field, value) in younger.configuration.spec.values where field != "nodeSelector" {
        let older = selected[(index + 1)...].last { $0.configuration.spec.values[field] != nil }
        guard let older, older.configuration.spec.values[field] != value else { continue }
        findings[younger.name, default: []].append("\(field) is overruled by FelixConfiguration \(older.name), which is older and selects node \(node) too")
      }
    }
    var layers = configurations["default"].map { [layer(.cluster, $0)] } ?? []
    layers += selected.map { layer(.selected($0.name), $0.configuration) }
    if let own = configurations["node.\(node)"] { layers.append(layer(.node(node), own)) }
    return (layers, findings.mapValues { $0.sorted() })
  }
}
