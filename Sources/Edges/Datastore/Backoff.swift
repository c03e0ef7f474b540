/// How long to wait before the next try: doubling from `first` to `max`, each wait somewhere between half of it and all of it.
///
/// The part left to chance keeps a thousand daemons that lost their datastore in one moment from coming back in one moment. Chance is
/// handed in, so that a test knows what it gets.
public struct Backoff: Sendable {
  private let first: Duration
  private let max: Duration
  private var step: Duration
  /// From 0 to 1.
  private let chance: @Sendable () -> Double

  public init(first: Duration, max: Duration, chance: @escaping @Sendable () -> Double = { .random(in: 0...1) }) {
    precondition(first > .zero && first <= max, "waits grow from more than nothing to a bound")
    (self.first, self.max, self.chance) = (first, max, chance)
    step = first
  }

  public mutating func next() -> Duration {
    defer { step = min(step * 2, max) }
    return step / 2 + step / 2 * chance()
  }
  /// After a success: the next wait is short again.
  public mutating func reset() { step = first }
}
