/// What goes wrong between a program and a stored object.
public import Resources

public enum ResourceStoreError: Error, Sendable, CustomStringConvertible {
  case alreadyExists(ResourceKey)
  case doesNotExist(ResourceKey)
  /// Somebody else changed it since it was read. `base` is the revision that the change was based on, nil if on none in particular (then
  /// others were faster every time); `present` is nil if it is gone.
  case conflict(ResourceKey, base: String?, present: Revision?)
  /// The name is the same, the object another: it was deleted and made anew.
  case replaced(ResourceKey, wantedUID: String, presentUID: String?)
  case refused(ResourceKey, reason: String)
  /// The stored value is no object of this kind at all.
  case unreadable(ResourceKey, reason: String)
  case datastore(DatastoreError)

  public var description: String {
    switch self {
    case .alreadyExists(let key): "\(key) exists already; use apply or replace to change it"
    case .doesNotExist(let key): "\(key) does not exist"
    case .conflict(let key, let base?, let present?):
      """
      \(key) was changed by somebody else meanwhile: this change is based on revision \(base), the present one is \(present); get it again \
      and repeat the change
      """
    case .conflict(let key, let base?, nil): "\(key) was deleted by somebody else meanwhile: this change is based on its revision \(base)"
    case .conflict(let key, nil, let present):
      "\(key) keeps being changed by others\(present.map { " (the present revision is \($0))" } ?? ""); repeat the command"
    case .replaced(let key, let wanted, let present):
      """
      \(key) is another object by now: its uid is \(present ?? "none"), not \(wanted); if this one is meant, get it again, or leave \
      metadata.uid and metadata.resourceVersion out
      """
    case .refused(let key, let reason): "\(key): \(reason)"
    case .unreadable(let key, let reason): "\(key) is stored as something that cannot be read: \(reason)"
    case .datastore(let error): error.description
    }
  }
}
