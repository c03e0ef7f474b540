/// Pools of addresses.
import Addresses
import JSON
import Names
import Resources

extension FieldReader {
  /// Nil if the pool has no readable network: then it is no pool.
  func ipPoolSpec() -> IPPoolSpec? {
    let value = value("cidr")
    if value == nil { findings.error(path("cidr"), nil, "is missing", fix: "add the pool's network, such as 192.168.0.0/16") }
    guard let cidr = value.flatMap({ prefix($0, path("cidr")) }) else {
      // The rules of the other fields need the network; their names do not.
      finish(hints: [
        "blockSize", "ipipMode", "vxlanMode", "natOutgoing", "disabled", "disableBGPExport", "nodeSelector", "namespaceSelector",
        "allowedUses", "assignmentMode",
      ])
      return nil
    }
    let range: ClosedRange<Int64> = cidr.family == .v4 ? 20...32 : 116...128
    // Zero is what Go writes for a size that nobody gave.
    let size = self.value("blockSize") == 0 ? nil : integer("blockSize", in: range).map { UInt8($0) }
    var spec = IPPoolSpec(cidr: cidr, blockSize: size)
    if spec.blockSize < cidr.length {
      findings.refusal(
        path("blockSize"), .integer(Int64(spec.blockSize)), "is larger than the pool \(cidr)",
        fix: "the pool must hold at least one block: give blockSize \(max(UInt8(range.lowerBound), cidr.length)) or more")
    }
    spec.ipipMode = choiceOrEmpty("ipipMode", IPPoolSpec.Encapsulation.self) ?? .never
    spec.vxlanMode = choiceOrEmpty("vxlanMode", IPPoolSpec.Encapsulation.self) ?? .never
    if spec.ipipMode != .never, spec.vxlanMode != .never {
      findings.refusal(path("vxlanMode"), .string(spec.vxlanMode.rawValue), "excludes ipipMode", fix: "set one of them to Never")
    }
    if spec.ipipMode != .never, cidr.family == .v6 {
      findings.refusal(path("ipipMode"), .string(spec.ipipMode.rawValue), "is not possible for an IPv6 pool", fix: "write Never")
    }
    spec.natOutgoing = bool("natOutgoing") ?? false
    spec.disabled = bool("disabled") ?? false
    spec.disableBGPExport = bool("disableBGPExport") ?? false
    spec.nodeSelector = selector("nodeSelector", mayBeGlobal: false).flatMap { $0.isEmpty ? nil : $0 } ?? "all()"
    spec.namespaceSelector = selector("namespaceSelector", mayBeGlobal: false).flatMap { $0.isEmpty ? nil : $0 }
    if self.value("allowedUses") != nil {
      let uses = array("allowedUses").compactMap { choice($0.value, $0.path, IPPoolSpec.Use.self) }
      if !uses.isEmpty { spec.allowedUses = Set(uses) }
    }
    spec.assignmentMode = choiceOrEmpty("assignmentMode", IPPoolSpec.AssignmentMode.self) ?? .automatic
    for reserved in [IPPrefix("169.254.0.0/16")!, IPPrefix("fe80::/10")!] where reserved.overlaps(cidr) {
      findings.refusal(path("cidr"), value, "overlaps the link-local range \(reserved)")
    }
    if spec.allowedUses.contains(.loadBalancer) {
      let usesPath = path("allowedUses")
      if spec.allowedUses.count > 1 { findings.refusal(usesPath, nil, "combines LoadBalancer with another use", fix: "use two pools") }
      if spec.ipipMode != .never || spec.vxlanMode != .never { findings.refusal(usesPath, nil, "LoadBalancer excludes encapsulation") }
      if spec.nodeSelector != "all()" { findings.refusal(path("nodeSelector"), nil, "must be all() for a LoadBalancer pool") }
      if spec.disableBGPExport { findings.refusal(path("disableBGPExport"), true, "is not possible for a LoadBalancer pool") }
    }
    if spec.namespaceSelector != nil, spec.allowedUses == [.tunnel] {
      findings.refusal(
        path("namespaceSelector"), nil, "is not possible for a pool of tunnels alone: a tunnel's address is in no namespace",
        fix: "remove it, or add Workload to allowedUses")
    }
    finish()
    return spec
  }
}

extension ResourceCodec {
  static func fields(_ pool: IPPoolSpec) -> JSONObject {
    var fields = JSONObject()
    fields["cidr"] = .string(pool.cidr.description)
    fields["blockSize"] = number(pool.blockSize)
    fields["ipipMode"] = .string(pool.ipipMode.rawValue)
    fields["vxlanMode"] = .string(pool.vxlanMode.rawValue)
    fields["natOutgoing"] = flag(pool.natOutgoing)
    fields["disabled"] = flag(pool.disabled)
    fields["disableBGPExport"] = flag(pool.disableBGPExport)
    fields["nodeSelector"] = .string(pool.nodeSelector)
    fields["namespaceSelector"] = pool.namespaceSelector.map(JSONValue.string)
    fields["allowedUses"] = list(IPPoolSpec.Use.allCases.filter(pool.allowedUses.contains).map(\.rawValue))
    fields["assignmentMode"] = .string(pool.assignmentMode.rawValue)
    return fields
  }
}
