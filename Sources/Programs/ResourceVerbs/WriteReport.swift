/// What a writing command did: object by object, with what was wrong, for people and for programs.
public import Datastore
public import Documents
public import JSON
import Patches
public import Resources

/// How a command ends. Every writing verb keeps to these; `diff` has its own meaning of 0 and 1 (`DiffReport`).
public enum ExitStatus: Int32, Sendable {
  case done = 0
  /// Something is invalid, or at least one object could not be written.
  case failed = 1
  /// The datastore cannot be reached or used.
  case unreachable = 2
  /// EX_USAGE of sysexits.h.
  case usage = 64
}

public enum Outcome: String, Hashable, Sendable, CaseIterable {
  case created, updated, unchanged, deleted
  /// Of `validate`, which writes nothing.
  case valid
  /// Left alone, as asked by --skip-exists and --skip-not-exists.
  case existed = "exists already"
  case absent = "does not exist"
  case failed
  /// The datastore went away before its turn.
  case notTried = "not tried"
}

/// Why one object was not written.
public struct WriteFailure: Error, Sendable, CustomStringConvertible {
  public enum Reason: String, Sendable { case alreadyExists, doesNotExist, conflict, refused, unreadable, invalid, datastore }
  public var reason: Reason
  public var description: String
  /// For what is wrong inside the document.
  public var findings: [DocumentError]
  public var isUnreachable: Bool

  public init(_ reason: Reason, _ description: String, findings: [DocumentError] = []) {
    self.reason = reason
    self.description = description
    self.findings = findings
    isUnreachable = false
  }
  public init(_ findings: [DocumentError], of key: ResourceKey) {
    self.init(.invalid, findings.map { $0.file == nil ? "\(key): \($0)" : "\($0)" }.joined(separator: "\n"), findings: findings)
  }
  public init(_ error: any Error, of key: ResourceKey) {
    switch error {
    case let failure as WriteFailure: self = failure
    case let error as ResourceStoreError:
      self.init(error)
      if reason == .datastore { description = "\(key): \(description)" }
    case let error as DatastoreError: self.init(ResourceStoreError.datastore(error), of: key)
    case let problem as PatchProblem: self.init(.invalid, "\(key): \(problem)")
    default: self.init(.refused, "\(error)")
    }
  }
  public init(_ error: ResourceStoreError) {
    switch error {
    case .alreadyExists: self.init(.alreadyExists, error.description)
    case .doesNotExist: self.init(.doesNotExist, error.description)
    case .conflict, .replaced: self.init(.conflict, error.description)
    case .refused: self.init(.refused, error.description)
    case .unreadable: self.init(.unreadable, error.description)
    case .datastore(let inner):
      self.init(.datastore, error.description)
      switch inner {
      case .unavailable, .unusable: isUnreachable = true
      case .compacted, .leaseNotFound, .refused: break
      }
    }
  }
}

public struct ObjectReport: Sendable {
  public var key: ResourceKey
  public var outcome: Outcome
  /// As it stands in the datastore now, or would.
  public var object: JSONValue?
  /// What went along with it, one line each.
  public var details: [String]
  /// What is no mistake, and yet not what whoever wrote it may think.
  public var warnings: [String] = []
  public var failure: WriteFailure?
  public init(_ key: ResourceKey, _ outcome: Outcome, object: JSONValue? = nil, details: [String] = [], failure: WriteFailure? = nil) {
    self.key = key
    self.outcome = outcome
    self.object = object
    self.details = details
    self.failure = failure
  }
}

public struct WriteReport: Sendable {
  public var verb: String
  /// Nothing was written.
  public var isRehearsal: Bool
  public var objects: [ObjectReport] = []
  public var errors: [DocumentError] = []
  public var warnings: [DocumentError] = []
  public init(verb: String, isRehearsal: Bool = false) {
    self.verb = verb
    self.isRehearsal = isRehearsal
  }

  public var exitStatus: ExitStatus {
    if objects.contains(where: { $0.failure?.isUnreachable ?? false }) { return .unreachable }
    return errors.isEmpty && !objects.contains { $0.failure != nil } ? .done : .failed
  }

  /// One document for programs. Names do not change once released; members may be added.
  public var json: JSONValue {
    var document = JSONObject()
    document["verb"] = .string(verb)
    document["dryRun"] = .bool(isRehearsal)
    document["exitCode"] = .integer(Int64(exitStatus.rawValue))
    document["objects"] = .array(objects.map(\.json))
    document["errors"] = .array(errors.map { $0.json(.error) })
    document["warnings"] = .array(warnings.map { $0.json(.warning) })
    return .object(document)
  }
}

extension ResourceKey {
  var jsonFields: JSONObject {
    var fields = JSONObject()
    fields["kind"] = .string(kind.rawValue)
    fields["namespace"] = namespace.map(JSONValue.string)
    fields["name"] = .string(name)
    return fields
  }
  /// `networkpolicy/web`: what `-o name` prints.
  public var word: String { "\(kind.rawValue.lowercased())/\(name)" }
}

extension ObjectReport {
  var json: JSONValue {
    var fields = key.jsonFields
    fields["outcome"] = .string(outcome.rawValue)
    if !details.isEmpty { fields["details"] = .array(details.map(JSONValue.string)) }
    if !warnings.isEmpty { fields["warnings"] = .array(warnings.map(JSONValue.string)) }
    if let failure {
      var error = JSONObject()
      error["reason"] = .string(failure.reason.rawValue)
      error["message"] = .string(failure.description)
      if !failure.findings.isEmpty { error["findings"] = .array(failure.findings.map { $0.json(.error) }) }
      fields["error"] = .object(error)
    }
    fields["object"] = object
    return .object(fields)
  }
}
