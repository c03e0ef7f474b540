/// Why a received path is no candidate, whatever its attributes: the loop checks. Such paths are kept, so that a person can see them.

enum Rejection: UInt8, Sendable, CustomStringConvertible {
  case none
  /// RFC 4271, section 9.1.2.
  case ownAS
  /// RFC 4456, section 8.
  case ownOriginator
  case ownCluster

  var description: String {
    switch self {
    case .none: "accepted"
    case .ownAS: "loop: own AS in the path"
    case .ownOriginator: "loop: this router originated it"
    case .ownCluster: "loop: passed this cluster before"
    }
  }
}
