/// Durations as Go reads and writes them, which is how Calico's API has them: `1m30s`, `1.5h`, `250ms`.

public enum GoDuration {
  /// Longest first where one unit begins another.
  private static let units: [(name: String, nanoseconds: Int64)] = [
    ("ns", 1), ("us", 1_000), ("µs", 1_000), ("μs", 1_000), ("ms", 1_000_000), ("s", 1_000_000_000), ("m", 60_000_000_000),
    ("h", 3_600_000_000_000),
  ]

  /// Nil if it is none, or beyond what Go can hold (292 years). Exact to the nanosecond.
  public static func parse(_ text: some StringProtocol) -> Duration? {
    var rest = Substring(text)
    let isNegative = rest.hasPrefix("-")
    if isNegative || rest.hasPrefix("+") { rest = rest.dropFirst() }
    if rest == "0" { return .zero }
    if rest.isEmpty { return nil }
    var total: Int64 = 0
    while !rest.isEmpty {
      let digits = rest.prefix { $0.isASCII && ($0.isNumber || $0 == ".") }
      rest = rest.dropFirst(digits.count)
      guard let unit = units.first(where: { rest.hasPrefix($0.name) }), let part = amount(digits, of: unit.nanoseconds) else { return nil }
      let (sum, overflows) = total.addingReportingOverflow(part)
      if overflows { return nil }
      total = sum
      rest = rest.dropFirst(unit.name.count)
    }
    return .nanoseconds(isNegative ? -total : total)
  }

  /// `1.25` of a unit, in nanoseconds; what is below one is cut off.
  private static func amount(_ digits: Substring, of unit: Int64) -> Int64? {
    let parts = digits.split(separator: ".", omittingEmptySubsequences: false)
    guard parts.count <= 2, parts.contains(where: { !$0.isEmpty }) else { return nil }
    var total: Int64 = 0
    if !parts[0].isEmpty {
      guard let whole = Int64(parts[0]) else { return nil }
      let (product, overflows) = whole.multipliedReportingOverflow(by: unit)
      if overflows { return nil }
      total = product
    }
    if parts.count == 2 {
      var scale = unit
      for digit in parts[1].utf8 {
        // What follows is below a nanosecond.
        if scale < 10 { break }
        scale /= 10
        let (sum, overflows) = total.addingReportingOverflow(scale * Int64(digit - UInt8(ascii: "0")))
        if overflows { return nil }
        total = sum
      }
    }
    return total
  }

  /// As Go prints it: `1h0m0s`, `1m30s`, `1.5s`, `250ms`, `0s`.
  public static func text(_ duration: Duration) -> String {
    let (seconds, attoseconds) = duration.components
    let nanoseconds = attoseconds / 1_000_000_000
    if seconds == 0, nanoseconds == 0 { return "0s" }
    let sign = seconds < 0 || nanoseconds < 0 ? "-" : ""
    let (whole, part) = (seconds.magnitude, nanoseconds.magnitude)
    if whole == 0 {
      if part < 1_000 { return "\(sign)\(part)ns" }
      if part < 1_000_000 { return sign + decimal(part, digits: 3) + "µs" }
      return sign + decimal(part, digits: 6) + "ms"
    }
    let rest = decimal(whole % 60 * 1_000_000_000 + part, digits: 9) + "s"
    if whole < 60 { return sign + rest }
    if whole < 3600 { return "\(sign)\(whole / 60)m\(rest)" }
    return "\(sign)\(whole / 3600)h\(whole / 60 % 60)m\(rest)"
  }

  /// `value` with the point so many digits from the end, without trailing zeros.
  private static func decimal(_ value: UInt64, digits: Int) -> String {
    var scale: UInt64 = 1
    for _ in 0..<digits { scale *= 10 }
    var fraction = String(value % scale)
    fraction = String(repeating: "0", count: digits - fraction.count) + fraction
    while fraction.hasSuffix("0") { fraction.removeLast() }
    return fraction.isEmpty ? "\(value / scale)" : "\(value / scale).\(fraction)"
  }
}
