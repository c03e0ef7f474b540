/// Addresses kept back from assignment.
import JSON
import Resources

extension FieldReader {
  func ipReservationSpec() -> IPReservationSpec {
    let spec = IPReservationSpec(reservedCIDRs: array("reservedCIDRs").compactMap { prefix($0.value, $0.path) })
    if spec.reservedCIDRs.isEmpty, value("reservedCIDRs")?.array?.isEmpty ?? true {
      findings.warning(path("reservedCIDRs"), nil, "is empty: nothing is reserved")
    }
    finish()
    return spec
  }
}

extension ResourceCodec {
  static func fields(_ reservation: IPReservationSpec) -> JSONObject {
    var fields = JSONObject()
    fields["reservedCIDRs"] = list(reservation.reservedCIDRs)
    return fields
  }
}
