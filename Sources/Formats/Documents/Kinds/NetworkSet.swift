/// NetworkSet and GlobalNetworkSet.
import JSON
import Resources

extension FieldReader {
  func networkSetSpec() -> NetworkSetSpec {
    let spec = NetworkSetSpec(nets: array("nets").compactMap { prefix($0.value, $0.path, masked: false) })
    finish()
    return spec
  }
}

extension ResourceCodec {
  static func fields(_ set: NetworkSetSpec) -> JSONObject {
    var fields = JSONObject()
    fields["nets"] = list(set.nets)
    return fields
  }
}
