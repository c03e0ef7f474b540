/// What the cluster is.
import JSON
import Resources

extension FieldReader {
  func clusterInformationSpec() -> ClusterInformationSpec {
    var spec = ClusterInformationSpec()
    spec.clusterGUID = string("clusterGUID")
    spec.clusterType = string("clusterType")
    spec.calicoVersion = string("calicoVersion")
    spec.datastoreReady = bool("datastoreReady")
    spec.variant = string("variant")
    finish()
    return spec
  }
}

extension ResourceCodec {
  static func fields(_ cluster: ClusterInformationSpec) -> JSONObject {
    var fields = JSONObject()
    fields["clusterGUID"] = cluster.clusterGUID.map(JSONValue.string)
    fields["clusterType"] = cluster.clusterType.map(JSONValue.string)
    fields["calicoVersion"] = cluster.calicoVersion.map(JSONValue.string)
    fields["datastoreReady"] = cluster.datastoreReady.map(JSONValue.bool)
    fields["variant"] = cluster.variant.map(JSONValue.string)
    return fields
  }
}
