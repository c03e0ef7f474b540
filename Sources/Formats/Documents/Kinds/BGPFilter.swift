/// Rules for routes to and from peers of BGP.
import JSON
import Resources

extension FieldReader {
  func bgpFilterSpec() -> BGPFilterSpec {
    let spec = BGPFilterSpec()
    finish(unknownIsWarning: true)
    return spec
  }
}

extension ResourceCodec {
  static func fields(_ spec: BGPFilterSpec) -> JSONObject {
    JSONObject()
  }
}
