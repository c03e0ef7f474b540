/// Calico's key paths for the API's objects.
public import Resources
import Names

extension ResourceKey {
  public static let root = "/calico/resources/v3/projectcalico.org/"
  static let ipamConfigurationPath = "/calico/ipam/v2/config"

  /// `/calico/resources/v3/projectcalico.org/<plural>/[<namespace>/]<name>`, but for the one view.
  public var path: String {
    if kind == .ipamConfiguration, name == "default" { return Self.ipamConfigurationPath }
    return Self.root + kind.plural + "/" + (namespace.map { KeyPart.escape($0) + "/" } ?? "") + KeyPart.escape(name)
  }
  /// Everything of one kind, or of one kind in one namespace.
  public static func prefix(of kind: Kind, namespace: String? = nil) -> String {
    if kind == .ipamConfiguration { return ipamConfigurationPath }
    return root + kind.plural + "/" + (namespace.map { KeyPart.escape($0) + "/" } ?? "")
  }
  /// Nil for other keys, among them kinds that are not known here.
  public init?(path: String) {
    if path == Self.ipamConfigurationPath {
      self.init(.ipamConfiguration, name: "default")
      return
    }
    guard path.utf8.starts(with: Self.root.utf8) else { return nil }
    // By octets: a slash and a combining mark behind it are one character.
    let parts = path.utf8.dropFirst(Self.root.utf8.count).split(separator: UInt8(ascii: "/"), omittingEmptySubsequences: false)
      .map { String(Substring($0)) }
    guard let plural = parts.first, let kind = Self.kindsByPlural[plural], parts.count == (kind.isNamespaced ? 3 : 2)
    else { return nil }
    self.init(kind, namespace: kind.isNamespaced ? KeyPart.unescape(parts[1]) : nil, name: KeyPart.unescape(parts[parts.count - 1]))
  }
  private static let kindsByPlural = Dictionary(uniqueKeysWithValues: Kind.allCases.map { ($0.plural, $0) })
}
