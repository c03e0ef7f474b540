/// Which node has which block of addresses.
import JSON
import Resources

extension FieldReader {
  func blockAffinitySpec() -> BlockAffinitySpec {
    let spec = BlockAffinitySpec()
    finish(unknownIsWarning: true)
    return spec
  }
}

extension ResourceCodec {
  static func fields(_ spec: BlockAffinitySpec) -> JSONObject {
    JSONObject()
  }
}
