/// Kubernetes' strategic merge patch: a merge patch that knows which lists are sets of named things.
///
/// Lists have no merge key unless their type gives one; such a list is replaced as a whole. Calico's own types give none, so only the lists
/// that every object shares are merged: see `objects`. The directives are those of Kubernetes: `$patch: replace|delete|merge`,
/// `$retainKeys`, `$deleteFromPrimitiveList/NAME` and `$setElementOrder/NAME`.
public import JSON

public struct StrategicMerge: Sendable {
  public enum ListRule: Hashable, Sendable {
    /// Elements are objects, and this member says which one.
    case byKey(String)
    /// Elements are plain values, each there once.
    case asSet
  }
  /// By the names on the way to the list.
  public let lists: [[String]: ListRule]
  public init(lists: [[String]: ListRule]) { self.lists = lists }

  /// What Kubernetes' ObjectMeta and its conditions say.
  public static let objects = StrategicMerge(lists: [
    ["metadata", "ownerReferences"]: .byKey("uid"),
    ["metadata", "finalizers"]: .asSet,
    ["status", "conditions"]: .byKey("type"),
  ])

  public func apply(_ patch: JSONValue, to target: JSONValue) throws(PatchProblem) -> JSONValue {
    guard let patch = patch.object else { throw PatchProblem("a strategic merge patch is an object with the fields that change") }
    return .object(try merge(patch, onto: target.object ?? JSONObject(), at: []))
  }

  private func merge(_ patch: JSONObject, onto target: JSONObject, at path: [String]) throws(PatchProblem) -> JSONObject {
    var result = target
    var patch = patch
    if let directive = patch["$patch"] {
      patch["$patch"] = nil
      switch directive.string {
      case "replace": return try merge(patch, onto: JSONObject(), at: path)
      case "delete": return JSONObject()
      case "merge": break
      default: throw PatchProblem("$patch is \(directive.text()); it may be replace, delete or merge")
      }
    }
    if let retained = patch["$retainKeys"] {
      patch["$retainKeys"] = nil
      guard let names = retained.array?.map(\.string) else { throw PatchProblem("$retainKeys is no list of names") }
      for member in result.members where !names.contains(member.name) { result[member.name] = nil }
    }
    var orders: [(name: String, order: [JSONValue])] = []
    for member in patch.members {
      if let (directive, name) = Self.listDirective(member.name) {
        guard let values = member.value.array else { throw PatchProblem("\(member.name) is no list") }
        if directive == "$setElementOrder" {
          orders.append((name, values))
        } else if let elements = result[name]?.array {
          result[name] = .array(elements.filter { element in !values.contains { $0.means(element) } })
        }
        continue
      }
      let inner = path + [member.name]
      switch member.value {
      case .null: result[member.name] = nil
      case .object(let object):
        result[member.name] = .object(try merge(object, onto: result[member.name]?.object ?? JSONObject(), at: inner))
      case .array(let elements):
        result[member.name] = .array(try merge(elements, onto: result[member.name]?.array ?? [], at: inner))
      default: result[member.name] = member.value
      }
    }
    for (name, order) in orders {
      guard let elements = result[name]?.array else { continue }
      result[name] = .array(sort(elements, by: order, lists[path + [name]]))
    }
    return result
  }

  private static func listDirective(_ name: String) -> (directive: String, list: String)? {
    for directive in ["$setElementOrder", "$deleteFromPrimitiveList"] where name.hasPrefix(directive + "/") {
      return (directive, String(name.dropFirst(directive.count + 1)))
    }
    return nil
  }

  private func merge(_ patch: [JSONValue], onto target: [JSONValue], at path: [String]) throws(PatchProblem) -> [JSONValue] {
    guard let rule = lists[path] else { return patch }
    if patch.contains(where: { $0["$patch"]?.string == "replace" }) { return patch.filter { $0["$patch"] == nil } }
    var result = target
    for element in patch {
      switch rule {
      case .asSet: if !result.contains(where: { $0.means(element) }) { result.append(element) }
      case .byKey(let key):
        guard let object = element.object, let name = object[key] else {
          throw PatchProblem("an element of \(path.joined(separator: ".")) has no \(key), which says which one it is")
        }
        let index = result.firstIndex { $0[key]?.means(name) ?? false }
        if object["$patch"]?.string == "delete" {
          if let index { result.remove(at: index) }
        } else if let index {
          result[index] = .object(try merge(object, onto: result[index].object ?? JSONObject(), at: path))
        } else {
          result.append(.object(try merge(object, onto: JSONObject(), at: path)))
        }
      }
    }
    return result
  }

  /// Those that are named stand in the order of the names, in the places that they had; the others stay where they are.
  private func sort(_ elements: [JSONValue], by order: [JSONValue], _ rule: ListRule?) -> [JSONValue] {
    func rank(_ element: JSONValue) -> Int? {
      order.firstIndex { wanted in
        guard case .byKey(let key)? = rule else { return wanted.means(element) }
        return element[key].flatMap { mine in wanted[key].map { $0.means(mine) } } ?? false
      }
    }
    let ranks = elements.map(rank)
    let named = elements.indices.filter { ranks[$0] != nil }.sorted { (ranks[$0]!, $0) < (ranks[$1]!, $1) }
    var next = named.makeIterator()
    return elements.indices.map { index in ranks[index] == nil ? elements[index] : next.next().map { elements[$0] } ?? elements[index] }
  }
}
