/// Interfaces of hosts.
import JSON
import Resources

extension FieldReader {
  func hostEndpointSpec() -> HostEndpointSpec {
    let spec = HostEndpointSpec()
    finish(unknownIsWarning: true)
    return spec
  }
}

extension ResourceCodec {
  static func fields(_ spec: HostEndpointSpec) -> JSONObject {
    JSONObject()
  }
}
