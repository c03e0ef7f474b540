/// Documents to resources and back: what is applied by hand, and what stands in a datastore.
import Addresses
import AddressPlans
import Documents
import JSON
import LabProgram
import Resources

func checkDocuments(_ octets: [UInt8]) throws(Violation) {
  guard let documents = try? DocumentReader.read(bytes: octets, file: "fuzz.yaml") else { return }
  for document in documents {
    // What aliases have blown up is read all the same, but printing it here would only measure the printer.
    if document.value.bytes.count < 1 << 16 { try checkYAML(document.value) }
    let review = ResourceCodec.review(document)
    _ = review.errors.map(\.description)
    guard let resource = review.resource else { continue }
    try claim(review.errors.isEmpty, "accepted with errors: \(review.errors)")
    try checkRoundTrip(resource)
    guard let (lenient, faults) = try? ResourceCodec.decodeReporting(kind: resource.kind, value: document.value) else {
      throw Violation("\(resource.key) is valid, but cannot be read leniently")
    }
    try claim(faults.isEmpty, "\(resource.key) is valid, but the lenient reader finds \(faults)")
    let spellsTypes = document.value["spec"]?["types"]?.array?.isEmpty == false
    try claim(
      withDefaults(lenient, spellsTypes) == withDefaults(resource, spellsTypes), "strict: \(resource)\nlenient: \(lenient)")
  }
}

/// The first octet chooses the kind, the rest is the stored value.
func checkStored(_ octets: [UInt8]) throws(Violation) {
  var choices = Choices(octets)
  let kind = Kind.allCases[choices.number(below: Kind.allCases.count)]
  guard let value = try? JSONValue(parsing: choices.rest()),
    let (resource, faults) = try? ResourceCodec.decodeReporting(kind: kind, value: value)
  else { return }
  _ = faults.map(\.description)
  // Nothing changed, so nothing of the document may change.
  let unchanged = ResourceCodec.encode(resource, onto: value)
  try claim(unchanged.bytes == value.bytes, "an unchanged object is rewritten: \(value.text()) to \(unchanged.text())")
  guard faults.isEmpty else { return }
  let plain = ResourceCodec.encode(resource)
  guard let (again, secondFaults) = try? ResourceCodec.decodeReporting(kind: kind, value: plain) else {
    throw Violation("cannot read what it wrote: \(plain.text())")
  }
  try claim(secondFaults.isEmpty, "finds faults in what it wrote: \(secondFaults) in \(plain.text())")
  try claim(again == resource, "wrote \(plain.text()) for \(resource), reads \(again)")
}

private func checkYAML(_ value: JSONValue) throws(Violation) {
  let text = value.yamlText
  let again: [PositionedDocument]
  do throws(DocumentErrors) {
    again = try DocumentReader.read(bytes: Array(text.utf8), file: "fuzz.yaml")
  } catch {
    throw Violation("cannot read its own YAML: \(error)\n\(text)")
  }
  // Lists of documents are taken apart by the reader, so they do not come back as one.
  guard value.array == nil, value["kind"]?.string?.hasSuffix("List") != true else { return }
  let isSame = again.count == 1 && again[0].value.bytes == value.bytes
  try claim(isSame || value.isNull, "\(value.text()) reads back as \(again.map { $0.value.text() }) from\n\(text)")
}

private func checkRoundTrip(_ resource: Resource) throws(Violation) {
  let value = ResourceCodec.encode(resource)
  let review = ResourceCodec.review(PositionedDocument(file: "again", value: value))
  try claim(review.errors.isEmpty, "refuses what it wrote: \(review.errors.map(\.description)) in \(value.text())")
  try claim(review.resource == resource, "wrote \(value.text()) for \(resource), reads \(String(describing: review.resource))")
}

/// What only the strict reader writes out is the namespace; unspelled types of a policy are by its rules for the one, both for the other.
private func withDefaults(_ resource: Resource, _ spellsTypes: Bool) -> Resource {
  var resource = resource
  if resource.kind.isNamespaced { resource.metadata.namespace = resource.metadata.namespace ?? "default" }
  if !spellsTypes { resource.spec.changePolicy { $0.types = [] } }
  return resource
}

func checkTopology(_ octets: [UInt8]) throws(Violation) {
  // A topology may name files to apply; a fuzzer must not open what it thinks up.
  guard let text = String(validating: octets, as: UTF8.self), text.firstRange(of: "documents") == nil else { return }
  guard let topology = try? TopologyReader.read(octets, file: "fuzz.yaml", directory: "/nonexistent") else { return }
  let written = topology.document().yamlText
  var again: Topology
  do throws(DocumentErrors) {
    again = try TopologyReader.read(Array(written.utf8), file: "again.yaml", directory: "/nonexistent")
  } catch {
    throw Violation("cannot read its own document: \(error)\n\(written)")
  }
  again.objects = topology.objects
  try claim(again == topology, "\(topology)\nreads back as\n\(again)\nfrom\n\(written)")
}

func checkBlock(_ octets: [UInt8]) throws(Violation) {
  guard let value = try? JSONValue(parsing: octets), var block = try? AllocationBlock(parsing: value) else { return }
  try checkConsistent(block)
  let written = block.json()
  guard let again = try? AllocationBlock(parsing: written) else { throw Violation("cannot read the block it wrote: \(written.text())") }
  try claim(again.json().bytes == written.bytes, "a block is rewritten: \(written.text()) to \(again.json().text())")
  guard block.capacity <= 1024 else { return }

  let holder = AllocationBlock.Attribute(handleID: "fuzz", secondary: ["node": "n"])
  let before = block
  let taken = block.allocate(3, for: holder)
  try claim(taken.count == min(3, before.freeCount), "\(taken.count) of \(before.freeCount) free addresses were given")
  try checkConsistent(block)
  for address in taken {
    try claim(before.holder(of: address) == nil, "\(address) was held, and was given again")
    try claim(block.holder(of: address) == holder, "\(address) was given, and is not held")
  }
  _ = block.release(taken)
  try checkConsistent(block)
  for ordinal in 0..<block.capacity {
    let address = block.address(ordinal)
    try claim(block.holder(of: address) == before.holder(of: address), "\(address) changed hands")
  }
}

private func checkConsistent(_ block: AllocationBlock) throws(Violation) {
  let held = block.allocations.indices.filter { block.allocations[$0] != nil }
  try claim(Set(block.unallocated).count == block.unallocated.count, "an address is free twice")
  try claim(Set(block.unallocated).isDisjoint(with: held), "an address is free and held")
  try claim(block.unallocated.count + held.count == block.capacity, "an address is neither free nor held")
  try claim(block.allocations.allSatisfy { $0 == nil || block.attributes.indices.contains($0!) }, "an allocation names no attribute")
}
