/// A datastore as documents, in the three parts of `calicoctl datastore migrate export`:
///
///     the API's objects as YAML, a list for each kind, with --- between them
///     ===
///     ClusterInformation as JSON
///     ===
///     IPAM as JSON: {"block_affinities": […], "blocks": […], "handles": […], "config": {…}}, each {"Key": …, "Value": …, "TTL": 0}
///
/// calicoctl leaves out workload endpoints and profiles; they are here, because the target may be an etcd that serves the same hosts.
import Datastore
import Documents
import JSON
import Resources

public enum ExportFile {
  static let separator = "===\n"
  /// What others refer to comes before what refers to it.
  static let kinds: [Kind] = {
    let first: [Kind] = [
      .ipPool, .bgpFilter, .bgpPeer, .tier, .profile, .globalNetworkPolicy, .stagedGlobalNetworkPolicy, .globalNetworkSet, .hostEndpoint,
      .kubeControllersConfiguration, .networkPolicy, .stagedNetworkPolicy, .stagedKubernetesNetworkPolicy, .networkSet, .node,
      .bgpConfiguration, .felixConfiguration, .ipReservation,
    ]
    return first + Kind.allCases.filter { !first.contains($0) && $0 != .clusterInformation }
  }()

  /// The parts of IPAM by their names in the file, and where they stand.
  static let addressParts = [("block_affinities", "/calico/ipam/v2/host/"), ("blocks", "/calico/ipam/v2/assignment/"), ("handles", "/calico/ipam/v2/handle/")]
  static let addressConfiguration = "/calico/ipam/v2/config"

  /// The text; objects that are no JSON and so are not in it; how many keys are no objects and no IPAM.
  public static func text(_ content: StoreContent) -> (text: String, unreadable: [String], others: Int) {
    var byKind: [Kind: [JSONValue]] = [:]
    var cluster: JSONValue?
    var unreadable: [String] = []
    var addresses: [String: [JSONValue]] = [:]
    var configuration: JSONValue?
    var others = 0
    for item in content.items {
      if item.key != addressConfiguration, let key = ResourceKey(path: item.key) {
        guard var document = try? JSONValue(parsing: item.value), document.object != nil else {
          unreadable.append("\(key)")
          continue
        }
        // What belongs to the datastore that it stands in.
        for name in ["resourceVersion", "uid", "creationTimestamp"] { document["metadata"]?[name] = nil }
        if key.kind == .clusterInformation { cluster = document } else { byKind[key.kind, default: []].append(document) }
      } else if let part = addressParts.first(where: { KeyOrder.hasPrefix(item.key, $0.1) }) {
        // An affinity of old has no value and is confirmed; the mark of a host has none either and is of no use elsewhere.
        if item.value.isEmpty, !item.key.contains("/block/") { continue }
        let value: JSONValue? = item.value.isEmpty ? ["state": "confirmed", "deleted": false] : try? JSONValue(parsing: item.value)
        guard let value else {
          unreadable.append(item.key)
          continue
        }
        addresses[part.0, default: []].append(["Key": .string(item.key), "Value": value, "TTL": 0])
      } else if item.key == addressConfiguration, let value = try? JSONValue(parsing: item.value) {
        configuration = ["Key": .string(item.key), "Value": value, "TTL": 0]
      } else {
        others += 1
      }
    }
    var text = ""
    for kind in kinds {
      guard let documents = byKind[kind] else { continue }
      let list: JSONValue = [
        "apiVersion": .string(ResourceCodec.apiVersion), "items": .array(documents), "kind": .string("\(kind.rawValue)List"),
      ]
      text += list.yamlText + "---\n"
    }
    text += separator + (cluster.map { $0.text(pretty: true) } ?? "{}") + "\n" + separator
    var ipam = JSONObject()
    for (name, _) in addressParts { ipam[name] = addresses[name].map(JSONValue.array) }
    ipam["config"] = configuration
    return (text + JSONValue.object(ipam).text(pretty: true) + "\n", unreadable, others)
  }
}
