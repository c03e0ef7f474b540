/// What a node is asked to report about itself, and its report.
import JSON
import Resources

extension FieldReader {
  func calicoNodeStatusSpec() -> CalicoNodeStatusSpec {
    let spec = CalicoNodeStatusSpec()
    finish(unknownIsWarning: true)
    return spec
  }
}

extension ResourceCodec {
  static func fields(_ spec: CalicoNodeStatusSpec) -> JSONObject {
    JSONObject()
  }
}
