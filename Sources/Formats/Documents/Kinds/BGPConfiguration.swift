/// What holds for BGP on all nodes, or on one.
import Addresses
import JSON
import Names
import Resources

extension FieldReader {
  func bgpConfigurationSpec() -> BGPConfigurationSpec {
    var spec = BGPConfigurationSpec(
      nodeToNodeMeshEnabled: bool("nodeToNodeMeshEnabled"), asNumber: asNumber("asNumber"),
      listenPort: integer("listenPort", in: 1...65535).map { UInt16($0) })
    spec.logSeverityScreen = string("logSeverityScreen")
    finish(inert: [
      "serviceClusterIPs", "serviceExternalIPs", "serviceLoadBalancerIPs", "serviceLoadBalancerAggregation", "communities",
      "prefixAdvertisements", "nodeMeshPassword", "nodeMeshMaxRestartTime", "bindMode", "ignoredInterfaces", "localWorkloadPeeringIPV4",
      "localWorkloadPeeringIPV6", "programClusterRoutes", "ipv4NormalRoutePriority", "ipv6NormalRoutePriority",
    ])
    return spec
  }
}

extension ResourceCodec {
  static func fields(_ bgp: BGPConfigurationSpec) -> JSONObject {
    var fields = JSONObject()
    fields["logSeverityScreen"] = bgp.logSeverityScreen.map(JSONValue.string)
    fields["nodeToNodeMeshEnabled"] = bgp.nodeToNodeMeshEnabled.map(JSONValue.bool)
    fields["asNumber"] = number(bgp.asNumber)
    fields["listenPort"] = number(bgp.listenPort)
    return fields
  }
}
