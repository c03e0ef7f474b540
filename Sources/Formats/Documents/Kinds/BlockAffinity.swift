/// Which node has which block of addresses.
import Addresses
import JSON
import Resources

extension FieldReader {
  /// Nil if the block, its owner or its state cannot be read: then it is nobody's.
  func blockAffinitySpec() -> BlockAffinitySpec? {
    let state = required("state").flatMap { choice($0, path("state"), BlockAffinitySpec.State.self) }
    let node = required("node").flatMap { string($0, path("node")) }
    let type = choice("type", BlockAffinitySpec.Owner.self)
    let cidr = required("cidr").flatMap { prefix($0, path("cidr")) }
    // Older objects hold it as a text.
    let deleted = value("deleted")?.string.map { $0 == "true" } ?? bool("deleted") ?? false
    finish()
    guard let state, let node, let cidr else { return nil }
    return BlockAffinitySpec(state: state, node: node, type: type, cidr: cidr, deleted: deleted)
  }
}

extension ResourceCodec {
  static func fields(_ affinity: BlockAffinitySpec) -> JSONObject {
    var fields = JSONObject()
    fields["state"] = .string(affinity.state.rawValue)
    fields["node"] = .string(affinity.node)
    fields["type"] = affinity.type.map { .string($0.rawValue) }
    fields["cidr"] = .string(affinity.cidr.description)
    fields["deleted"] = .bool(affinity.deleted)
    return fields
  }
}
