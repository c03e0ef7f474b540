/// Where the value of a key is not the object's document.
///
/// The configuration of address assignment has been a small record of its own since before there was an API for it: Calico's programs read
/// `/calico/ipam/v2/config`, and `IPAMConfiguration default` is a view of it. What neither side knows stays in both directions.
public import JSON
public import Resources

public enum StoredForm {
  /// The document that a stored value stands for.
  public static func document(_ value: JSONValue, _ key: ResourceKey) -> JSONValue {
    guard key.kind == .ipamConfiguration, let record = value.object else { return value }
    var metadata: JSONValue = .object(record["metadata"]?.object ?? JSONObject())
    metadata["name"] = .string(key.name)
    var spec = JSONObject()
    for member in record.members where member.name != "metadata" { spec[names[member.name] ?? member.name] = member.value }
    // Go leaves false out, so that what is missing in a record is false; but then nobody could get an address, unless affinity is strict.
    if spec["strictAffinity"] == nil { spec["strictAffinity"] = false }
    if spec["autoAllocateBlocks"] == nil { spec["autoAllocateBlocks"] = .bool(spec["strictAffinity"]?.bool != true) }
    return ["apiVersion": "projectcalico.org/v3", "kind": .string(key.kind.rawValue), "metadata": metadata, "spec": .object(spec)]
  }

  /// What is stored for a document.
  static func value(_ document: JSONValue, _ key: ResourceKey) -> JSONValue {
    guard key.kind == .ipamConfiguration else { return document }
    var record = JSONObject()
    for member in document["spec"]?.object?.members ?? [] { record[recordNames[member.name] ?? member.name] = member.value }
    // Identity and time are not of the record: whoever reads it twice sees the same object.
    let transient = ["name", "uid", "resourceVersion", "creationTimestamp"]
    let metadata = (document["metadata"]?.object?.members ?? []).filter { !transient.contains($0.name) }
    if !metadata.isEmpty { record["metadata"] = .object(JSONObject(metadata)) }
    return .object(record)
  }

  /// The record's names that differ from the specification's.
  private static let names = ["strict_affinity": "strictAffinity", "auto_allocate_blocks": "autoAllocateBlocks"]
  private static let recordNames = ["strictAffinity": "strict_affinity", "autoAllocateBlocks": "auto_allocate_blocks"]
}
