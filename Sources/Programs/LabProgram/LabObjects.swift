/// Everything that a lab's datastore holds, read as any client would: by this program, from where the datastore can be reached.
import Documents
import JSON
import Resources

public struct LabObjects: Sendable {
  public var resources: [Resource] = []
  /// What is stored and is no object of its kind, and why.
  public var unreadable: [ResourceKey: String] = [:]

  /// `resources` as stored, `unreadable` as the store tells it.
  public static func document(_ resources: [JSONValue], _ unreadable: [(key: ResourceKey, reason: String)]) -> JSONValue {
    [
      "resources": .array(resources),
      "unreadable": .array(
        unreadable.map { key, reason in
          [
            "kind": .string(key.kind.rawValue), "namespace": key.namespace.map { .string($0) } ?? .null, "name": .string(key.name),
            "reason": .string(reason),
          ]
        }),
    ]
  }
}

extension Lab {
  public func objects() throws -> LabObjects {
    let result = try margay(["lab", "objects"])
    guard result.code == 0, let document = try? JSONValue(parsing: Array(result.output.utf8)) else {
      throw LabProblem("the objects of lab \(paths.lab) cannot be read: \(result.output)")
    }
    var objects = LabObjects()
    for value in document["resources"]?.array ?? [] {
      guard let kind = value["kind"]?.string.flatMap({ Kind(rawValue: $0) }) else { continue }
      objects.resources.append(try ResourceCodec.decodeLenient(kind: kind, value: value))
    }
    for value in document["unreadable"]?.array ?? [] {
      guard let kind = value["kind"]?.string.flatMap({ Kind(rawValue: $0) }), let name = value["name"]?.string else { continue }
      objects.unreadable[ResourceKey(kind, namespace: value["namespace"]?.string, name: name)] = value["reason"]?.string ?? ""
    }
    return objects
  }
}
