/// Which value of each setting is in force on a node, who says so, and who is overruled.
///
/// The one place where the order of sources is decided, weakest first: what holds without anybody's word, FelixConfiguration `default`, those
/// that select the node (of several, the oldest), `node.NAME`, the host's file, the environment, and what the program was told when it was
/// started. A value that cannot be read is kept out where it stands, so that what is weaker counts, and is told.
public import Resources

public struct SettingsResolution: Hashable, Sendable {
  public struct Given: Hashable, Sendable {
    public let source: SettingsSource
    public let value: FelixParameterValue
  }
  public struct Setting: Hashable, Sendable {
    public let parameter: FelixParameter
    /// Strongest first: the first is in force. Empty: the default is.
    public let given: [Given]
    /// Values that are kept out.
    public let faults: [String]
  }
  /// Weakest first.
  public let layers: [SettingsLayer]
  /// What is in force, as far as somebody gives it.
  public let effective: FelixConfigurationSpec
  /// What is wrong with this host's own sources.
  public let problems: [String]
  /// What is wrong with FelixConfigurations that are for this node, by name.
  public let findings: [String: String]

  /// `local`: this host's own sources, weakest first.
  public init(_ stored: StoredSettings, local: [SettingsLayer] = []) {
    let (layers, found) = stored.layers()
    let all = layers + local
    self.layers = all
    effective = FelixConfigurationSpec(merging: all.map { FelixConfigurationSpec($0.values) })
    var problems: [String] = []
    var findings = found
    for layer in all {
      for fault in layer.faults {
        let text = fault.field.map { "\(fault.reason); \(Self.inForce($0, all)) is in force" } ?? fault.reason
        switch layer.source {
        case .cluster: findings["default", default: []].append("\(text)")
        case .selected(let name): findings[name, default: []].append("\(text)")
        case .node(let name): findings["node.\(name)", default: []].append("\(text)")
        case .environment: problems.append("\(fault.name) in the environment: \(text)")
        case .file, .override: problems.append("\(fault.name) in \(layer.source): \(text)")
        }
      }
    }
    if effective.text("nftablesMode") == "Disabled" {
      problems.append("nftablesMode is Disabled, but nftables is the only dataplane here: it stays in use; write Auto or Enabled")
    }
    self.problems = problems
    self.findings = findings.mapValues { $0.joined(separator: "; ") }
  }

  public var notes: [String] { layers.flatMap { layer in layer.notes.map { "\(layer.source): \($0)" } } }

  public func setting(_ parameter: FelixParameter) -> Setting {
    Setting(
      parameter: parameter,
      given: layers.reversed().compactMap { layer in layer.values[parameter.field].map { Given(source: layer.source, value: $0) } },
      faults: layers.reversed().flatMap { layer in
        layer.faults.filter { $0.field == parameter.field }.map { "\(layer.source): \($0.reason)" }
      })
  }

  private static func inForce(_ field: String, _ layers: [SettingsLayer]) -> String {
    layers.last { $0.values[field] != nil }.map { "what \($0.source) says" } ?? "the default"
  }
}
