/// What the kernel refused, in its own words where it gives them.

public import Sockets
import Glibc

public struct NetlinkError: Error, Equatable, Sendable, CustomStringConvertible {
  /// Positive errno.
  public let code: CInt
  /// The kernel's extended acknowledgement, when it sent one: `Nexthop has invalid gateway`.
  public let message: String?
  /// What was asked for: `route 10.65.0.7/32 dev cali1`.
  public var what: String

  public init(code: CInt, message: String? = nil, what: String) {
    self.code = code
    self.message = message
    self.what = what
  }
  public init(_ error: SystemError) { self.init(code: error.code, what: error.operation) }

  /// The object is not there: success for whoever deletes it.
  public var isNotFound: Bool { code == ENOENT || code == ESRCH || code == ENODEV || code == ENXIO || code == EADDRNOTAVAIL }
  public var isExists: Bool { code == EEXIST }
  /// The interface the request needs is missing or down: worth another try when it comes.
  public var needsInterface: Bool { code == ENODEV || code == ENETDOWN || code == ENETUNREACH || code == EHOSTUNREACH || code == ENXIO }
  public var description: String {
    let text = SystemError.text(of: code)
    return if let message { "\(what): \(text) (\(message))" } else { "\(what): \(text)" }
  }
}

extension NetlinkError {
  /// Gives the error of a batch's message its object.
  public func about(_ what: String) -> NetlinkError { NetlinkError(code: code, message: message, what: what) }
}
