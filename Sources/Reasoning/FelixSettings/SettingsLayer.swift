/// What one place says of Felix's settings.
public import Resources

/// Where a value comes from.
public enum SettingsSource: Hashable, Sendable, CustomStringConvertible {
  /// FelixConfiguration `default`.
  case cluster
  /// A FelixConfiguration of any other name, whose node selector matches this node.
  case selected(String)
  /// FelixConfiguration `node.NAME`.
  case node(String)
  case file(String)
  case environment
  /// What the program was told by whoever started it, such as an option of the command.
  case override(String)

  public var description: String {
    switch self {
    case .cluster: "FelixConfiguration default"
    case .selected(let name): "FelixConfiguration \(name)"
    case .node(let name): "FelixConfiguration node.\(name)"
    case .file(let path): path
    case .environment: "environment"
    case .override(let what): what
    }
  }
}

public struct SettingsLayer: Hashable, Sendable {
  /// A value that is kept out: what is weaker counts.
  public struct Fault: Hashable, Sendable {
    /// Nil: no setting has this name.
    public var field: String?
    /// As it is called where it stands.
    public var name: String
    /// `"maybe" is not true or false`
    public var reason: String
    public init(field: String?, name: String, reason: String) { (self.field, self.name, self.reason) = (field, name, reason) }
  }
  public var source: SettingsSource
  public var values: [String: FelixParameterValue]
  public var faults: [Fault]
  /// What is there, has no effect, and needs none.
  public var notes: [String]
  public init(
    _ source: SettingsSource, _ values: [String: FelixParameterValue] = [:], faults: [Fault] = [], notes: [String] = []
  ) {
    (self.source, self.values, self.faults, self.notes) = (source, values, faults, notes)
  }
}
