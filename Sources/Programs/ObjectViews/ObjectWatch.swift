/// `get --watch`: what a feed of changes means for the objects that were asked for.
///
/// The feed outlives outages and compaction and tells only real differences; here an object that no longer has the labels asked for is
/// deleted, and one that gets them is added.
public import Datastore
public import OutputForms
import Resources

public struct ObjectWatch: Sendable {
  public enum Change: String, Sendable {
    case added = "ADDED"
    case modified = "MODIFIED"
    case deleted = "DELETED"
  }
  public struct Step: Sendable {
    public var changes: [(change: Change, object: ShownObject)] = []
    /// The datastore stopped answering and why, or (nil) answers again.
    public var connection: String??
    /// Everything that existed at the beginning has been told with this step.
    public var isInSync = false
  }
  private let names: [Kind: Set<String>]
  private let namespace: String?
  private let labels: LabelFilter?
  /// Only what happens from now on.
  private var isOnly: Bool
  private var known: [ResourceKey: ShownObject] = [:]

  public init(_ request: ObjectRequest, namespace: String?, labels: LabelFilter?, changesOnly: Bool) {
    var names: [Kind: Set<String>] = [:]
    for part in request.parts { if let wanted = part.names { names[part.kind] = Set(wanted) } }
    self.names = names
    self.namespace = namespace
    self.labels = labels
    isOnly = changesOnly
  }

  public mutating func take(_ events: [FeedEvent]) -> Step {
    var step = Step()
    for event in events {
      switch event {
      case .resource(let key, let stored): take(key, stored.map { ShownObject($0) }, &step)
      case .unreadable(let key, let reason): take(key, ShownObject(unreadable: key, reason), &step)
      case .inSync:
        step.isInSync = true
        if isOnly { step.changes = [] }
        isOnly = false
      case .connection(let problem): step.connection = .some(problem)
      case .raw, .revision: break
      }
    }
    // What there is now may come in several steps.
    if isOnly { step.changes = [] }
    return step
  }

  private mutating func take(_ key: ResourceKey, _ object: ShownObject?, _ step: inout Step) {
    if key.kind.isNamespaced, let namespace, key.namespace != namespace { return }
    if let wanted = names[key.kind], !wanted.contains(key.name) { return }
    let isMeant = object.map { labels?.matches($0.labels) ?? true } ?? false
    if let object, isMeant {
      step.changes.append((known.updateValue(object, forKey: key) == nil ? .added : .modified, object))
    } else if let last = known.removeValue(forKey: key) {
      step.changes.append((.deleted, object ?? last))
    }
  }
}

extension ShownObject {
  public init(_ stored: StoredResource) {
    self.init(stored.resource.key, document: stored.document)
  }
  init(unreadable key: ResourceKey, _ reason: String) {
    self.init(key: key, document: nil, resource: nil, problem: reason, faults: [])
  }
}
