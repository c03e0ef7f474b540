/// How addresses are assigned in the whole cluster.
import JSON
import Resources

extension FieldReader {
  func ipamConfigurationSpec() -> IPAMConfigurationSpec {
    var spec = IPAMConfigurationSpec()
    spec.strictAffinity = bool("strictAffinity") ?? false
    spec.autoAllocateBlocks = bool("autoAllocateBlocks") ?? true
    spec.maxBlocksPerHost = integer("maxBlocksPerHost", in: 0...Int64(Int32.max)).map { Int($0) } ?? 0
    spec.kubeVirtVMAddressPersistence = choice("kubeVirtVMAddressPersistence", IPAMConfigurationSpec.VMAddressPersistence.self)
    spec.ipCooldownSeconds = integer("ipCooldownSeconds", in: 0...1200).map { Int($0) }
    if !spec.strictAffinity, !spec.autoAllocateBlocks {
      findings.refusal(
        path("autoAllocateBlocks"), false, "leaves no node a block of its own while every node may borrow",
        fix: "write strictAffinity: true, or autoAllocateBlocks: true")
    }
    if spec.maxBlocksPerHost > 0, !spec.strictAffinity {
      findings.refusal(
        path("maxBlocksPerHost"), .integer(Int64(spec.maxBlocksPerHost)), "limits nothing while nodes may borrow from others' blocks",
        fix: "write strictAffinity: true, or maxBlocksPerHost: 0")
    }
    finish()
    return spec
  }
}

extension ResourceCodec {
  static func fields(_ configuration: IPAMConfigurationSpec) -> JSONObject {
    var fields = JSONObject()
    fields["strictAffinity"] = .bool(configuration.strictAffinity)
    fields["autoAllocateBlocks"] = .bool(configuration.autoAllocateBlocks)
    fields["maxBlocksPerHost"] = configuration.maxBlocksPerHost == 0 ? nil : number(configuration.maxBlocksPerHost)
    fields["kubeVirtVMAddressPersistence"] = configuration.kubeVirtVMAddressPersistence.map { .string($0.rawValue) }
    fields["ipCooldownSeconds"] = number(configuration.ipCooldownSeconds)
    return fields
  }
}
