/// Time as an input: a session never asks a clock.

/// Nanoseconds on the caller's monotonic clock; only differences mean anything.
@frozen
public struct Instant: Hashable, Comparable, Sendable, CustomStringConvertible {
  public var nanoseconds: UInt64
  @inlinable public init(nanoseconds: UInt64) { self.nanoseconds = nanoseconds }
  @inlinable public func advanced(by duration: Duration) -> Instant {
    let (seconds, attoseconds) = duration.components
    return Instant(nanoseconds: nanoseconds &+ UInt64(bitPattern: seconds &* 1_000_000_000 &+ attoseconds / 1_000_000_000))
  }
  /// Negative if `other` is earlier.
  @inlinable public func duration(to other: Instant) -> Duration {
    .nanoseconds(Int64(bitPattern: other.nanoseconds &- nanoseconds))
  }
  @inlinable public static func + (instant: Self, duration: Duration) -> Instant { instant.advanced(by: duration) }
  @inlinable public static func - (a: Self, b: Self) -> Duration { b.duration(to: a) }
  @inlinable public static func < (a: Self, b: Self) -> Bool { a.nanoseconds < b.nanoseconds }
  public var description: String { "t+\(Duration.nanoseconds(Int64(clamping: nanoseconds)))" }
}
