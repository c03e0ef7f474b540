/// The profile that every cluster has and none stores: endpoints that name it are open. It is read like any other and cannot be written.
import Documents
import JSON
public import Resources

extension ResourceStore {
  public static let builtInProfileName = "projectcalico-default-allow"

  static let builtInProfile: StoredResource = {
    let resource = Resource(
      Metadata(name: builtInProfileName), .profile(ProfileSpec(ingress: [Rule(.allow)], egress: [Rule(.allow)])))
    return StoredResource(resource: resource, document: ResourceCodec.encode(resource), revision: .zero)
  }()

  public static let builtInProfilePath = builtInProfile.resource.key.path

  /// The same as if it were stored, for whoever reads keys.
  public static func builtIn(_ key: ResourceKey) -> KeyValue? {
    guard key == builtInProfile.resource.key else { return nil }
    return KeyValue(key: key.path, value: builtInProfile.document.bytes, createRevision: .zero, modRevision: .zero)
  }
  /// Into a list of all profiles.
  public static func addBuiltIn(to items: inout [KeyValue]) {
    guard let item = builtIn(builtInProfile.resource.key), !items.contains(where: { $0.key == item.key }) else { return }
    items.insert(item, at: items.firstIndex { item.key < $0.key } ?? items.endIndex)
  }
}
