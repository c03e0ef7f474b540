/// Addresses that are not assigned.
import JSON
import Resources

extension FieldReader {
  func ipReservationSpec() -> IPReservationSpec {
    let spec = IPReservationSpec()
    finish(unknownIsWarning: true)
    return spec
  }
}

extension ResourceCodec {
  static func fields(_ spec: IPReservationSpec) -> JSONObject {
    JSONObject()
  }
}
