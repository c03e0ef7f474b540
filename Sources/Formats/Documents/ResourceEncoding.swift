/// Resources to documents, written over the old document so that nothing in it is lost that we do not understand.
///
/// The rule is a three-way comparison: where the old document, as we read it, says the same as the new resource, the old text stands word
/// for word, unreadable parts included; where we know a field and it changed, the new one stands; what we do not know stays.
import Addresses
import JSON
import Resources

extension ResourceCodec {
  /// The document of a resource. `old` is the document it replaces, if there is one.
  public static func encode(_ resource: Resource, onto old: JSONValue? = nil) -> JSONValue {
    let plain = plain(resource)
    guard let old, var before = try? decodeLenient(kind: resource.kind, value: old) else { return strip(plain) }
    // Whoever writes what is wanted says nothing about what is reported.
    if resource.status == nil { before.status = nil }
    var reading = Self.plain(before)
    // A rule that has a field nobody here knows reads as a deny. A new object without such a rule comes from a document, and is compared
    // with what the rest of the old rule says, so that the field stays with its rule, and what the document leaves out goes.
    if holdsFault(reading), !holdsFault(plain), let known = try? decodeLenient(kind: resource.kind, value: withoutUnknownFields(old)) {
      reading = Self.plain(known)
    }
    return merge(plain, onto: old, readAs: reading)
  }

  private static func holdsFault(_ value: JSONValue) -> Bool {
    switch value {
    case .object(let object): object.members.contains { $0.name == faultMark || holdsFault($0.value) }
    case .array(let elements): elements.contains(where: holdsFault)
    default: false
    }
  }

  /// Marks a rule that could not be read, so that two of them are the same only if they fail for the same reason. Never written.
  static let faultMark = "\u{0}fault"

  private static func merge(_ new: JSONValue, onto old: JSONValue, readAs before: JSONValue) -> JSONValue {
    if new == before { return old }
    switch (new, old, before) {
    case (.object(let new), .object(let old), .object(let before)): return .object(merge(new, onto: old, readAs: before))
    case (.array(let new), .array(let old), .array(let before)) where old.count == before.count:
      return .array(merge(new, onto: old, readAs: before))
    default: return strip(new)
    }
  }

  // Sets of networks have many thousands of elements and label maps may be as large as the datastore takes: both merges are linear.

  private static func merge(_ new: JSONObject, onto old: JSONObject, readAs before: JSONObject) -> JSONObject {
    func byName(_ object: JSONObject) -> [String: JSONValue] {
      Dictionary(object.members.map { ($0.name, $0.value) }, uniquingKeysWith: { first, _ in first })
    }
    let (newValues, oldValues, beforeValues) = (byName(new), byName(old), byName(before))
    var members: [JSONObject.Member] = []
    for member in old.members {
      let beforeValue = beforeValues[member.name]
      guard let value = newValues[member.name], member.name != faultMark else {
        if beforeValue == nil { members.append(member) }
        continue
      }
      if let beforeValue {
        members.append(JSONObject.Member(member.name, merge(value, onto: member.value, readAs: beforeValue)))
      } else {
        members.append(JSONObject.Member(member.name, overlay(value, onto: member.value)))
      }
    }
    // What is absent and reads as its default stays absent while it is the default.
    for member in new.members where member.name != faultMark && oldValues[member.name] == nil && beforeValues[member.name] != member.value {
      members.append(JSONObject.Member(member.name, strip(member.value)))
    }
    return JSONObject(members)
  }

  /// Onto something that could not be read: what it holds besides stays, in lists of the same length element by element.
  private static func overlay(_ new: JSONValue, onto old: JSONValue) -> JSONValue {
    switch (new, old) {
    case (.object(let new), .object(let old)): .object(merge(new, onto: old, readAs: JSONObject()))
    case (.array(let new), .array(let old)) where new.count == old.count: .array(zip(new, old).map { overlay($0, onto: $1) })
    default: strip(new)
    }
  }

  private static func merge(_ new: [JSONValue], onto old: [JSONValue], readAs before: [JSONValue]) -> [JSONValue] {
    var isFree = [Bool](repeating: true, count: before.count)
    // Where each value stood; the places are used up from the first on.
    var places: [JSONValue: ArraySlice<Int>] = [:]
    for (index, value) in before.enumerated() { places[value, default: []].append(index) }
    let present = Set(new)
    return new.enumerated().map { index, element in
      // The same element may have moved; only one that is equal, or in the same place of a list as long as before, inherits.
      var match = index < before.count && isFree[index] && before[index] == element ? index : nil
      if match == nil {
        while let place = places[element]?.first, !isFree[place] { places[element]!.removeFirst() }
        match = places[element]?.first
      }
      if let match {
        isFree[match] = false
        return old[match]
      }
      if new.count == before.count, element.object != nil, old[index].object != nil, places[element] == nil,
        !present.contains(before[index])
      {
        isFree[index] = false
        return merge(element, onto: old[index], readAs: before[index])
      }
      return strip(element)
    }
  }

  private static func strip(_ value: JSONValue) -> JSONValue {
    switch value {
    case .object(let object):
      .object(JSONObject(object.members.filter { $0.name != faultMark }.map { JSONObject.Member($0.name, strip($0.value)) }))
    case .array(let elements): .array(elements.map(strip))
    default: value
    }
  }

  // MARK: Our own form

  static func plain(_ resource: Resource) -> JSONValue {
    var document = JSONObject()
    document["apiVersion"] = .string(apiVersion)
    document["kind"] = .string(resource.kind.rawValue)
    let metadata = resource.metadata
    var fields = JSONObject()
    fields["name"] = .string(metadata.name)
    fields["namespace"] = metadata.namespace.map(JSONValue.string)
    fields["uid"] = metadata.uid.map(JSONValue.string)
    fields["resourceVersion"] = metadata.resourceVersion.map(JSONValue.string)
    fields["creationTimestamp"] = metadata.creationTimestamp.map(JSONValue.string)
    fields["labels"] = map(metadata.labels)
    fields["annotations"] = map(metadata.annotations)
    document["metadata"] = .object(fields)
    if resource.kind.isFlat {
      for member in spec(resource.spec).members { document[member.name] = member.value }
    } else {
      document["spec"] = .object(spec(resource.spec))
    }
    document["status"] = resource.status.map { .object(Self.fields($0)) }
    return .object(document)
  }

  static func map(_ map: [String: String]) -> JSONValue? {
    map.isEmpty ? nil : .object(JSONObject(map.sorted { $0.key < $1.key }.map { JSONObject.Member($0.key, .string($0.value)) }))
  }
  static func list(_ elements: some Collection<some CustomStringConvertible>) -> JSONValue? {
    elements.isEmpty ? nil : .array(elements.map { .string($0.description) })
  }
  static func text(_ text: String) -> JSONValue? { text.isEmpty ? nil : .string(text) }
  static func text(_ value: (some CustomStringConvertible)?) -> JSONValue? { value.map { .string($0.description) } }
  static func number(_ value: (some BinaryInteger)?) -> JSONValue? { value.map { .integer(Int64($0)) } }
  static func number(_ value: Double?) -> JSONValue? {
    value.map { Int64(exactly: $0).map(JSONValue.integer) ?? .double($0) }
  }
  static func flag(_ value: Bool) -> JSONValue? { value ? true : nil }

  private static func spec(_ spec: Resource.Spec) -> JSONObject {
    switch spec {
    case .bgpConfiguration(let spec): fields(spec)
    case .bgpFilter(let spec): fields(spec)
    case .bgpPeer(let spec): fields(spec)
    case .blockAffinity(let spec): fields(spec)
    case .calicoNodeStatus(let spec): fields(spec)
    case .clusterInformation(let spec): fields(spec)
    case .felixConfiguration(let spec): fields(spec)
    case .globalNetworkPolicy(let spec): fields(spec)
    case .globalNetworkSet(let spec): fields(spec)
    case .hostEndpoint(let spec): fields(spec)
    case .ipamConfiguration(let spec): fields(spec)
    case .ipPool(let spec): fields(spec)
    case .ipReservation(let spec): fields(spec)
    case .kubeControllersConfiguration(let spec): fields(spec)
    case .kubernetesEndpointSlice(let spec): fields(spec)
    case .liveMigration(let spec): fields(spec)
    case .networkPolicy(let spec): fields(spec)
    case .networkSet(let spec): fields(spec)
    case .node(let spec): fields(spec)
    case .profile(let spec): fields(spec)
    case .stagedGlobalNetworkPolicy(let spec): fields(spec)
    case .stagedKubernetesNetworkPolicy(let spec): fields(spec)
    case .stagedNetworkPolicy(let spec): fields(spec)
    case .tier(let spec): fields(spec)
    case .workloadEndpoint(let spec): fields(spec)
    }
  }
}
