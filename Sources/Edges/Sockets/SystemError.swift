/// What a system call refused, and a descriptor that is closed once.
///
/// This module is the edge to the operating system: one loop of readiness, sockets, files and child processes, without Foundation.
/// `unsafe` appears here where octets cross into C; every such pointer is borrowed for the one call.


import CLinux
import Glibc

/// A failed system call.
public struct SystemError: Error, Equatable, Sendable, CustomStringConvertible {
  /// The value of errno.
  public let code: CInt
  /// What was tried, with its object: `open /run/margay/cni.sock`.
  public let operation: String

  public init(code: CInt, operation: String) {
    self.code = code
    self.operation = operation
  }
  /// Reads errno; call it before anything else may change it.
  public static func last(_ operation: @autoclosure () -> String) -> SystemError {
    let code = errno
    return SystemError(code: code, operation: operation())
  }
  /// The thing is gone: success for whoever wanted to delete it.
  public var isNotFound: Bool { code == ENOENT || code == ESRCH || code == ENODEV || code == ENXIO }
  public var isExists: Bool { code == EEXIST }
  /// Nothing to read or no room to write just now.
  public var isWouldBlock: Bool { code == EAGAIN }
  public var description: String { "\(operation): \(Self.text(of: code))" }

  /// The C library's words for an errno.
  public static func text(of code: CInt) -> String {
    unsafe withUnsafeTemporaryAllocation(of: CChar.self, capacity: 256) { buffer in
      guard let base = buffer.baseAddress, let text = unsafe cl_error_text(code, base, 256) else { return "error \(code)" }
      return unsafe String(cString: text)
    }
  }
}

/// Throws the `SystemError` of `operation` if `result` is negative.
@discardableResult
public func check<Number: SignedInteger>(_ result: Number, _ operation: @autoclosure () -> String) throws(SystemError) -> Number {
  if result < 0 { throw SystemError.last(operation()) }
  return result
}

/// A file descriptor with one owner, closed when the owner lets go.
public struct OwnedDescriptor: ~Copyable, Sendable {
  private let raw: CInt
  public init(owning raw: CInt) { self.raw = raw }
  /// The number, valid as long as this value lives.
  public var borrowed: CInt { raw }
  /// Gives the number away: whoever receives it closes it.
  public consuming func release() -> CInt {
    let raw = raw
    discard self
    return raw
  }
  /// A second descriptor of the same open file.
  public borrowing func duplicate() throws(SystemError) -> OwnedDescriptor {
    OwnedDescriptor(owning: try check(dupCloseOnExec(raw), "duplicate descriptor \(raw)"))
  }
  deinit { _ = Glibc.close(raw) }
}

func dupCloseOnExec(_ descriptor: CInt) -> CInt { fcntl(descriptor, F_DUPFD_CLOEXEC, 3) }

/// Nanoseconds on a clock that never steps (CLOCK_MONOTONIC).
@frozen
public struct MonotonicInstant: Hashable, Comparable, Sendable {
  public var nanoseconds: Int64
  @inlinable public init(nanoseconds: Int64) { self.nanoseconds = nanoseconds }
  public static var now: MonotonicInstant { MonotonicInstant(nanoseconds: cl_monotonic_nanoseconds()) }
  @inlinable public static func < (a: Self, b: Self) -> Bool { a.nanoseconds < b.nanoseconds }
  public static func + (a: Self, b: Duration) -> Self { Self(nanoseconds: a.nanoseconds &+ b.wholeNanoseconds) }
  public static func - (a: Self, b: Self) -> Duration { .nanoseconds(a.nanoseconds &- b.nanoseconds) }
}

extension Duration {
  /// In nanoseconds, cut off at the range of 64 bits (292 years).
  public var wholeNanoseconds: Int64 {
    let (seconds, attoseconds) = components
    let product = seconds.multipliedReportingOverflow(by: 1_000_000_000)
    guard !product.overflow else { return seconds < 0 ? .min : .max }
    let sum = product.partialValue.addingReportingOverflow(attoseconds / 1_000_000_000)
    return sum.overflow ? (seconds < 0 ? .min : .max) : sum.partialValue
  }
}

/// Clocks that are not the loop's.
public enum SystemClock {
  /// Nanoseconds since 1970, as the wall clock has it; may step.
  public static var realtimeNanoseconds: Int64 { cl_realtime_nanoseconds() }
  /// Nanoseconds since boot, suspend included.
  public static var boottimeNanoseconds: Int64 { cl_boottime_nanoseconds() }
}
