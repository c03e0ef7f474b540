/// How addresses are assigned.
import JSON
import Resources

extension FieldReader {
  func ipamConfigurationSpec() -> IPAMConfigurationSpec {
    let spec = IPAMConfigurationSpec()
    finish(unknownIsWarning: true)
    return spec
  }
}

extension ResourceCodec {
  static func fields(_ spec: IPAMConfigurationSpec) -> JSONObject {
    JSONObject()
  }
}
