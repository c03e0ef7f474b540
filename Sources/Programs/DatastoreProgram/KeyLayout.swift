/// The places below `/calico/` that Calico's components and Margay's know. What stands elsewhere is read by nobody here.
import Datastore
import Resources

enum KeyLayout {
  enum Place: Hashable {
    case object(ResourceKey)
    /// A group of keys under a name for people.
    case known(String)
    /// Under the prefix of the API's objects, and no object.
    case strayObject
    case unknown
  }
  /// The longest prefix that fits comes first.
  static let prefixes: [(prefix: String, name: String)] = [
    ("/calico/ipam/v2/assignment/", "IPAM blocks"),
    ("/calico/ipam/v2/handle/", "IPAM handles"),
    ("/calico/ipam/v2/host/", "IPAM affinities"),
    ("/calico/ipam/v2/virtual/", "IPAM affinities"),
    ("/calico/ipam/v2/config", "IPAM configuration"),
    ("/calico/felix/v1/", "status of agents"),
    ("/calico/felix/v2/", "status of agents"),
    ("/calico/bgp/v1/", "BGP settings of Calico 2"),
    ("/calico/dhcp/v1/", "subnets of OpenStack"),
    ("/calico/dhcp/v2/", "subnets of OpenStack"),
    ("/calico/openstack/", "elections of OpenStack"),
    ("/calico/compaction/v1/", "compaction by OpenStack"),
    ("/calico/margay/v1/", "Margay's own"),
    ("/calico/v1/", "the model of Calico 2"),
  ]

  static func place(_ key: String) -> Place {
    // A view of a record, which is reviewed as what it is.
    if let object = ResourceKey(path: key), object.kind != .ipamConfiguration { return .object(object) }
    if KeyOrder.hasPrefix(key, ResourceKey.root) { return .strayObject }
    return prefixes.first { KeyOrder.hasPrefix(key, $0.prefix) }.map { .known($0.name) } ?? .unknown
  }
}
